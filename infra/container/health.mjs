// The image's health check: the process that listens here is alive. /readyz would take a service away from its users when
// its database is away, although it could tell them so itself.
const { PORT = '8080' } = process.env
try {
  const answer = await fetch(`http://127.0.0.1:${PORT}/${process.argv[2] ?? 'livez'}`, {
    signal: AbortSignal.timeout(2_000),
  })
  if (!answer.ok) console.error(`${answer.status} ${await answer.text()}`)
  process.exitCode = answer.ok ? 0 : 1
} catch (error) {
  console.error(error.cause?.message ?? error.message)
  process.exitCode = 1
}
