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

export const passwordLength = { min: 12, max: 256 }
export const displayNameLength = { min: 1, max: 100 }

/** RFC 5321: 254 octets are the longest address that fits a path. */
const maxEmailLength = 254

// Letters of any script; none of the characters that mean something in a mail's header (<>()[],;:"\).
const emailForm = /^[^\s\p{C}@<>()[\]\\,;:"]{1,64}@[\p{L}\p{M}\p{N}-]+(\.[\p{L}\p{M}\p{N}-]+)+$/u

// Control characters, line and paragraph separators, and halves of surrogate pairs.
const unprintable = /[\p{Cc}\p{Zl}\p{Zp}\p{Cs}]/u

// Something to be seen: not only spaces, joiners and other invisible characters.
const visible = /[^\s\p{C}\p{M}]/u

/** The form in which an address identifies an account: trimmed, NFKC, lower case. Applying it twice changes nothing. */
export function normaliseEmail(email: string): string {
  return email.normalize('NFKC').toLowerCase().normalize('NFKC').trim()
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

  must(emailForm.test(email) && Buffer.byteLength(email) <= maxEmailLength, 'email', 'must be an email address')
  must(
    characters(password) >= passwordLength.min && characters(password) <= passwordLength.max,
    'password',
    `must have ${passwordLength.min} to ${passwordLength.max} characters`,
  )
  must(
    visible.test(displayName) && characters(displayName) <= displayNameLength.max,
    'displayName',
    `must have ${displayNameLength.min} to ${displayNameLength.max} characters`,
  )
  must(!unprintable.test(input.displayName), 'displayName', 'must be one line without control characters')
  return problems.length > 0 ? { problems } : { email, password, displayName }
}
