import { domainToASCII, domainToUnicode } from 'node:url'
import { isLine, withoutInkless } from '@shopstream/http/text'

/** What a client says when it registers. */
export interface RegistrationInput {
  email: string
  password: string
  displayName: string
}

/** A registration that keeps every rule, in the form that is stored. */
export interface Registration {
  email: string
  /** NFKC, so that the same password typed on another keyboard is the same. */
  password: string
  displayName: string
}

export interface FieldProblem {
  field: string
  message: string
}

const passwordLength = { min: 12, max: 256 }
const displayNameLength = { min: 1, max: 100 }

/** In octets: RFC 5321 for the local part and for what fits a path, RFC 1035 for a label. */
const longest = { localPart: 64, email: 254 }

// A dot-atom of any script; none of the characters that mean something in a mail's header (<>()[],;:"\), nor blanks.
const localPartForm = /^(?!\.)(\.?[^\s\p{C}\p{Default_Ignorable_Code_Point}@<>()[\]\\,;:".])+$/u

// Nothing that means something in a URL, since domainToASCII parses one. The joiners belong to some scripts.
const domainForm = /^[\p{L}\p{M}\p{N}\p{Join_Control}.\u3002-]+$/u

// Two labels of letters, digits and inner hyphens at least; the last one makes it no IPv4 address.
const hostForm = /^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+(?=[a-z])[a-z0-9-]{0,62}[a-z0-9]$/

/** What no spelling changes: trimmed, NFKC, lower case. */
export const foldEmail = (email: string): string => email.normalize('NFKC').toLowerCase().normalize('NFKC').trim()

/**
 * The form in which an address identifies an account: folded, and its domain as DNS has it (`bücher.example` is
 * `xn--bcher-kva.example`), so that one mailbox is one account. Applying it twice changes nothing.
 */
export function normaliseEmail(email: string): string {
  const folded = foldEmail(email)
  const domainAt = folded.lastIndexOf('@') + 1
  return folded.slice(0, domainAt) + (asciiDomain(folded.slice(domainAt)) ?? folded.slice(domainAt))
}

/** A domain by UTS #46, undefined if it is none that a mail could go to. Node lets pass `xn--` that is no Punycode. */
function asciiDomain(domain: string): string | undefined {
  const ascii = domainForm.test(domain) ? domainToASCII(domain) : ''
  return hostForm.test(ascii) && !/(^|\.)xn--/.test(domainToUnicode(ascii)) ? ascii : undefined
}

/** Whether a normalised address is one: `local.part@domain`, without the quotes, comments and IP literals of RFC 5322. */
function isEmail(email: string): boolean {
  const at = email.lastIndexOf('@')
  const localPart = email.slice(0, at)
  return (
    localPartForm.test(localPart) &&
    withoutInkless(localPart) === localPart &&
    Buffer.byteLength(localPart) <= longest.localPart &&
    asciiDomain(email.slice(at + 1)) !== undefined &&
    Buffer.byteLength(email) <= longest.email
  )
}

/** The form in which a password is hashed and verified. */
export function normalisePassword(password: string): string {
  return password.normalize('NFKC')
}

const characters = (text: string) => [...text].length

/** Applies the rules of an account to what a client sent: the registration, or every field that breaks a rule. */
export function parseRegistration(input: RegistrationInput): Registration | { problems: FieldProblem[] } {
  const email = normaliseEmail(input.email)
  const password = normalisePassword(input.password)
  const displayName = input.displayName.normalize('NFC').trim()
  const problems: FieldProblem[] = []
  const must = (holds: boolean, field: string, message: string) => holds || problems.push({ field, message })

  must(isEmail(email), 'email', 'must be an email address')
  must(
    characters(password) >= passwordLength.min && characters(password) <= passwordLength.max,
    'password',
    `must have ${passwordLength.min} to ${passwordLength.max} characters`,
  )
  must(
    displayName !== '' && characters(displayName) <= displayNameLength.max,
    'displayName',
    `must have ${displayNameLength.min} to ${displayNameLength.max} characters`,
  )
  must(
    displayName === '' || isLine(input.displayName),
    'displayName',
    'must be one line that can be seen, without control characters and bidirectional overrides',
  )
  return problems.length > 0 ? { problems } : { email, password, displayName }
}
