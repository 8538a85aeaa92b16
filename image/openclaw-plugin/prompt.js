// What reaches the model besides what people wrote. OpenClaw's provider hook `wrapStreamFn` gives us the last word.

// The line tells the model to answer with its technical name: it would talk a model out of a name it was taught.
const IDENTITY = /\n*(?:<!-- OPENCLAW_CACHE_BOUNDARY -->)?\n*Current model identity: [^\n]*/g;
const STAMP = /^\[(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) \d{4}-\d{2}-\d{2} \d{2}:\d{2}[^\]\n]{0,40}\] */;
const CONTEXT_BLOCK = /^[^\n]*⟦openclaw:ctx⟧\n```json\n[\s\S]*?\n```\n*/;
const INTERNAL = /\n*<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>[\s\S]*?<<<END_OPENCLAW_INTERNAL_CONTEXT>>>\n*/g;
// A turn that a restart cut short is taken up again with these two around the person's words.
const QUEUED = /^\[Queued user message from a previous active turn;[^\]\n]*\]\n/;
const RESUMED = /(?:^|\n\n)\[System\] Your previous turn was interrupted by a gateway restart[^\n]*/;
const FAILED_TURN = /^This turn ended before a reply: /;
const OUR_COMMAND = /^\/(?:feedback|lessons)(?:\s|$)/;

/** For every model: OpenClaw keeps our commands in the history, but they were said to us and not to the model. */
export function withoutCommands(ctx) {
  return rewriting(ctx, (context) => ({ ...context, messages: context.messages.filter((m) => !isCommand(m)) }));
}

/** For small models: besides, no technical name, no time stamps, no bookkeeping. */
export function leanStream(ctx) {
  return rewriting(ctx, (context) => ({
    ...context,
    systemPrompt: context.systemPrompt?.replace(IDENTITY, ""),
    messages: context.messages.map(asWritten).filter((m) => !isCommand(m) && !isEmpty(m)),
  }));
}

function rewriting(ctx, rewrite) {
  const send = ctx.streamFn;
  return send && ((model, context, options) => send(model, rewrite(context), options));
}

function asWritten(message) {
  if (message.role !== "user") return message;
  if (typeof message.content === "string") return { ...message, content: stripped(message.content) };
  const content = message.content.map((part) => (part.type === "text" ? { ...part, text: stripped(part.text) } : part));
  return { ...message, content: content.filter((part) => part.type !== "text" || part.text !== "") };
}

function stripped(text) {
  let rest = text.replace(INTERNAL, "").replace(RESUMED, "");
  for (let before; before !== rest; ) {
    before = rest;
    rest = rest.replace(STAMP, "").replace(CONTEXT_BLOCK, "").replace(QUEUED, "");
  }
  return rest;
}

/** What the person wrote, of a message that OpenClaw put its own words around. Empty when nobody wrote it. */
export function written(message) {
  const parts = typeof message.content === "string" ? [message.content] : texts(message);
  const words = parts.map(stripped).join("").trim();
  return FAILED_TURN.test(words) ? "" : words;
}

function isCommand(message) {
  return message.role === "user" && OUR_COMMAND.test(written(message));
}

function isEmpty(message) {
  if (message.role !== "user" || written(message) !== "") return false;
  return typeof message.content === "string" || texts(message).length === message.content.length;
}

function texts(message) {
  return message.content.filter((part) => part.type === "text").map((part) => part.text);
}
