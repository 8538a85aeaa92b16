// Which conversations are being answered right now. OpenClaw loses a reply when a command writes into its
// conversation meanwhile, and feedback given while a reply still comes is about that reply: so commands wait for it.
const SHARED = Symbol.for("clawlama.running"); // register() runs several times in one process

function replies() {
  globalThis[SHARED] ??= new Map(); // session key -> { done, finish, until }
  return globalThis[SHARED];
}

/** A reply is on its way; nobody waits longer than this for its end, which OpenClaw may forget to announce. */
export function began(sessionKey, patienceMs) {
  if (!sessionKey) return;
  const until = Date.now() + patienceMs;
  const known = replies().get(sessionKey);
  if (known) {
    known.until = until;
    return;
  }
  let finish;
  const done = new Promise((resolve) => (finish = resolve));
  replies().set(sessionKey, { done, finish, until });
}

export function ended(sessionKey) {
  replies().get(sessionKey)?.finish();
  replies().delete(sessionKey);
}

/** Resolves when no reply is being written there. */
export async function quiet(sessionKey) {
  let running;
  while ((running = replies().get(sessionKey)) && Date.now() < running.until) {
    let timer;
    const patience = new Promise((resolve) => (timer = setTimeout(resolve, running.until - Date.now())));
    await Promise.race([running.done, patience]);
    clearTimeout(timer);
  }
  replies().delete(sessionKey);
}
