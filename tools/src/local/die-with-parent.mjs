/**
 * Loaded into every service by the local stack (--import): ends the service when the stack's process has gone without
 * stopping it (kill -9), because nobody else would. First by SIGTERM, as if it had been stopped, then for good.
 */
const parent = Number(process.env.SHOPSTREAM_STACK_PID)

const timer = setInterval(() => {
  if (process.ppid === parent) return
  clearInterval(timer)
  process.kill(process.pid, 'SIGTERM')
  setTimeout(() => process.kill(process.pid, 'SIGKILL'), 5_000).unref()
}, 500)
timer.unref()
// Its output went to the stack; writing there must not be what ends it in the middle of stopping.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})
