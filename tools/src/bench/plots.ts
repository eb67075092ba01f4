/** Results as pictures: how many times as good as its reference each is, and what an order's CPU is made of. */
import type { Result } from './results.ts'

const width = 840
const rowHeight = 26
const left = 190
const right = 200
const top = 56
const bottom = 34
const inner = width - left - right
/** Readable to those who see no difference between red and green. */
const colours = ['#0072b2', '#e69f00', '#009e73', '#cc79a7', '#56b4e9', '#d55e00', '#f0e442', '#999999']
const [held, missed] = [colours[0], colours[5]]

const escaped = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
const label = (x: number, y: number, text: string, more = '') =>
  `<text x="${x.toFixed(1)}" y="${y}" ${more}>${escaped(text)}</text>`
const rectangle = (x: number, y: number, wide: number, colour: string | undefined) =>
  `<rect x="${x.toFixed(1)}" y="${y}" width="${Math.max(wide, 1).toFixed(1)}" height="16" fill="${colour}"/>`
const upright = (x: number, y: number, height: number, style: string) =>
  `<line x1="${x.toFixed(1)}" x2="${x.toFixed(1)}" y1="${y}" y2="${y + height}" ${style}/>`

const picture = (title: string, note: string, height: number, parts: readonly string[]) =>
  [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="13">`,
    `<title>${escaped(title)}</title>`,
    `<rect width="${width}" height="${height}" fill="white"/>`,
    label(16, 22, title, 'font-size="16" font-weight="bold"'),
    label(16, 41, note, 'fill="#555"'),
    ...parts,
    '</svg>',
    '',
  ].join('\n')

const yOf = (row: number) => top + row * rowHeight

/** A bar for each ratio, from 1 on a logarithmic scale: to the right is better than the reference; a line stands where the goal is. */
export function ratioPlot(results: readonly Result[]): string {
  const rows = results.flatMap(({ name, ratio, goal, reference }) =>
    ratio && reference ? [{ name, ratio, goal, reference: reference.name }] : [],
  )
  const ends = rows.flatMap(({ ratio, goal }) => [ratio, goal ?? 1]).concat(0.5, 2)
  const [least, most] = [Math.log(Math.min(...ends)), Math.log(Math.max(...ends))]
  const x = (value: number) => left + ((Math.log(value) - least) / (most - least)) * inner
  const height = yOf(rows.length) + bottom
  const bars = rows.flatMap(({ name, ratio, goal, reference }, row) => {
    const y = yOf(row)
    const isHeld = goal === undefined || ratio >= goal
    return [
      label(left - 10, y + 13, name, 'text-anchor="end"'),
      rectangle(Math.min(x(1), x(ratio)), y, Math.abs(x(ratio) - x(1)), isHeld ? held : missed),
      ...(goal === undefined ? [] : [upright(x(goal), y - 3, 22, 'stroke="black" stroke-width="2"')]),
      label(width - right + 14, y + 13, `${ratio.toFixed(2)} × ${reference}`, 'font-size="12"'),
    ]
  })
  const axis = upright(x(1), top - 6, rows.length * rowHeight + 6, 'stroke="#999" stroke-dasharray="3 3"')
  return picture(
    'How many times as good as its reference',
    'In one run on one machine; logarithmic, the dashed line is 1, a black line the goal; orange where it is not held.',
    height,
    [axis, ...bars, label(x(1), height - 12, '1', 'text-anchor="middle" fill="#555"')],
  )
}

/** A bar for each arm, divided by the parts that an order's CPU goes to. */
export function budgetPlot(results: readonly Result[]): string {
  const sides = results.flatMap(({ ours, reference }) => [
    { name: 'shopstream', ...ours },
    ...(reference ? [reference] : []),
  ])
  const arms = [
    ...Map.groupBy(
      sides.filter(({ parts }) => parts),
      ({ name }) => name,
    ),
  ].map(([name, [first]]) => ({
    name,
    parts: Object.entries(first?.parts ?? {}).toSorted(([, a], [, b]) => b - a),
  }))
  const sum = (parts: readonly (readonly [string, number])[]) => parts.reduce((ms, [, some]) => ms + some, 0)
  const most = Math.max(...arms.map(({ parts }) => sum(parts)))
  const bars = arms.flatMap(({ name, parts }, arm) => {
    const y = yOf(2 * arm)
    const named = parts.filter(([, ms]) => ms >= 0.01)
    const bar = named.map(([, ms], n) =>
      rectangle(left + (sum(named.slice(0, n)) / most) * inner, y, (ms / most) * inner, colours[n % colours.length]),
    )
    const words = named.map(
      ([part, ms], n) =>
        `<tspan fill="${colours[n % colours.length]}">■</tspan> ${escaped(part)} ${ms.toFixed(ms < 1 ? 2 : 1)}  `,
    )
    return [
      label(left - 10, y + 13, name, 'text-anchor="end"'),
      ...bar,
      label(left + (sum(parts) / most) * inner + 8, y + 13, `${sum(parts).toFixed(1)} ms`),
      `<text x="${left}" y="${y + 31}" font-size="11">${words.join('')}</text>`,
    ]
  })
  const note = 'In milliseconds by process; without the load generator and the mail server.'
  return picture('CPU of one order', note, yOf(2 * arms.length) + 10, bars)
}
