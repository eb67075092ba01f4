/** The inbox page: lists what `GET /email` says, shows one mail's text and, in a frame without any rights, its HTML. */
export const inboxPage = /* html */ `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Inbox</title>
<style>
  :root { color-scheme: light dark; --line: #8884; --soft: #8882; --accent: #2563eb; }
  * { box-sizing: border-box; }
  body { margin: 0; font: 15px/1.45 system-ui, sans-serif; height: 100vh; display: grid; grid-template: auto 1fr / minmax(16rem, 26rem) 1fr; }
  header { grid-column: 1 / -1; display: flex; gap: 1rem; align-items: baseline; padding: .7rem 1rem; border-bottom: 1px solid var(--line); }
  h1 { font-size: 1.1rem; margin: 0; } #count { opacity: .65; flex: 1; }
  button { font: inherit; padding: .25rem .8rem; border: 1px solid var(--line); border-radius: .4rem; background: none; color: inherit; cursor: pointer; }
  ul { margin: 0; padding: 0; list-style: none; overflow: auto; border-right: 1px solid var(--line); }
  li button { display: block; width: 100%; text-align: start; border: 0; border-bottom: 1px solid var(--line); border-radius: 0; padding: .6rem 1rem; }
  li button:hover { background: var(--soft); } li button[aria-current=true] { box-shadow: inset 3px 0 var(--accent); background: var(--soft); }
  li b, li span { display: block; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; } li span { font-size: .85rem; opacity: .7; }
  main { overflow: auto; padding: 1rem 1.5rem; display: flex; flex-direction: column; gap: .8rem; min-width: 0; }
  h2 { margin: 0; font-size: 1.25rem; overflow-wrap: anywhere; } dl { margin: 0; display: grid; grid-template-columns: auto 1fr; gap: .15rem .8rem; font-size: .9rem; }
  dt { opacity: .65; } dd { margin: 0; overflow-wrap: anywhere; } pre { white-space: pre-wrap; overflow-wrap: anywhere; font: inherit; margin: 0; }
  iframe { flex: 1; min-height: 20rem; border: 1px solid var(--line); border-radius: .4rem; background: #fff; } .empty { opacity: .6; padding: 1rem; }
  @media (max-width: 45rem) { body { grid-template: auto 40vh 1fr / 1fr; } ul { border-right: 0; border-bottom: 1px solid var(--line); } }
</style>
<header><h1>Inbox</h1><span id="count" role="status">loading…</span><button id="clear" type="button">Delete all</button></header>
<ul id="list" aria-label="Mails, newest first"></ul>
<main id="mail"><p class="empty">Mails of the local shop arrive here; the list refreshes by itself.</p></main>
<script>
  const el = (tag, text, more = {}) => Object.assign(document.createElement(tag), { textContent: text, dir: 'auto' }, more)
  const who = (people) => people.map((p) => p.name ? p.name + ' <' + p.address + '>' : p.address).join(', ')
  const find = (id) => document.getElementById(id)
  let shown = '', selected = ''
  function show(mail) {
    selected = mail.id
    const facts = document.createElement('dl')
    for (const [name, value] of [['From', who(mail.from)], ['To', who(mail.to)], ['Time', new Date(mail.time).toLocaleString()], ['Message-ID', mail.headers['message-id'] || '']])
      facts.append(el('dt', name), el('dd', value))
    const parts = [el('h2', mail.subject || '(no subject)'), facts]
    if (mail.text) parts.push(el('pre', mail.text))
    if (mail.html) {
      const frame = el('iframe', '', { title: 'HTML of the mail', src: '/email/' + encodeURIComponent(mail.id) + '/html' })
      frame.setAttribute('sandbox', '')
      parts.push(frame)
    }
    find('mail').replaceChildren(...parts)
    for (const button of document.querySelectorAll('li button')) button.setAttribute('aria-current', button.dataset.id === selected)
  }
  async function refresh() {
    try {
      const mails = (await (await fetch('/email')).json()).reverse()
      const state = mails.length + (mails[0] ? mails[0].id : '')
      find('count').textContent = mails.length === 1 ? '1 mail' : mails.length + ' mails'
      if (state !== shown) {
        shown = state
        find('list').replaceChildren(...mails.map((mail) => {
          const item = document.createElement('li'), button = el('button', '', { type: 'button', onclick: () => show(mail) })
          button.dataset.id = mail.id
          button.setAttribute('aria-current', mail.id === selected)
          button.append(el('b', mail.subject || '(no subject)'), el('span', who(mail.to) + ' · ' + new Date(mail.time).toLocaleTimeString()))
          item.append(button)
          return item
        }))
      }
    } catch { find('count').textContent = 'the mail server does not answer' }
    setTimeout(refresh, 1000)
  }
  find('clear').onclick = () => fetch('/email/all', { method: 'DELETE' }).then(() => find('mail').replaceChildren())
  refresh()
</script>
`
