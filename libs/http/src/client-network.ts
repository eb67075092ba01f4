import { isIPv6 } from 'node:net'

/**
 * What one subscriber has: an IPv4 address, or 64 bits of IPv6, in which a client takes any address it likes
 * (`2001:db8:0:1::/64`).
 */
export function networkOf(address: string): string {
  const plain = address.replace(/^::ffff:(?=\d+\.)|%.*$/gi, '')
  if (!isIPv6(plain)) return plain
  const [before = [], after = []] = new URL(`http://[${plain}]`).hostname
    .slice(1, -1)
    .split('::')
    .map((part) => part.split(':').filter((group) => group !== ''))
  const groups = [...before, ...Array(8 - before.length - after.length).fill('0'), ...after]
  return `${groups.slice(0, 4).join(':')}::/64`
}
