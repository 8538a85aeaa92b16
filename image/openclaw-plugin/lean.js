// What OpenClaw adds to every request although the lean profile replaced its prompt: a line that tells the model
// to answer with its technical name (it would talk a model out of a name it was taught), and a time stamp before
// each message of the user.
const IDENTITY = /\n*(?:<!-- OPENCLAW_CACHE_BOUNDARY -->)?\n*Current model identity: [^\n]*/g;
const STAMP = /^\[(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) \d{4}-\d{2}-\d{2} \d{2}:\d{2}(?::\d{2})? [^\]\n]{1,40}\] /;

/** OpenClaw's provider hook: the stream function to use instead of `ctx.streamFn`. */
export function leanStream(ctx) {
  const send = ctx.streamFn;
  if (!send) return undefined;
  return (model, context, options) =>
    send(
      model,
      {
        ...context,
        systemPrompt: context.systemPrompt?.replace(IDENTITY, ""),
        messages: context.messages.map(withoutStamp),
      },
      options,
    );
}

function withoutStamp(message) {
  if (message.role !== "user") return message;
  if (typeof message.content === "string") return { ...message, content: message.content.replace(STAMP, "") };
  const [first, ...rest] = message.content;
  if (first?.type !== "text") return message;
  return { ...message, content: [{ ...first, text: first.text.replace(STAMP, "") }, ...rest] };
}
