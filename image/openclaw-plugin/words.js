// Which words of a message are a person's. Our API knows the same marks (supervisor/gateway/bookkeeping.py): it decides
// what the model reads; here they tell which words a piece of feedback is about.

const STAMP = /^\[(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) \d{4}-\d{2}-\d{2} \d{2}:\d{2}[^\]\n]{0,40}\] */;
const CONTEXT_BLOCK = /^[^\n]*⟦openclaw:ctx⟧\n```json\n[\s\S]*?\n```\n*/;
const INTERNAL = /\n*<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>[\s\S]*?<<<END_OPENCLAW_INTERNAL_CONTEXT>>>\n*/g;
// A turn that a restart cut short is taken up again with these two around the person's words.
const QUEUED = /^\[Queued user message from a previous active turn;[^\]\n]*\]\n/;
const RESUMED = /(?:^|\n\n)\[System\] Your previous turn was interrupted by a gateway restart[^\n]*/;
const FAILED_TURN = /^This turn ended before a reply: /;

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

function texts(message) {
  return message.content.filter((part) => part.type === "text").map((part) => part.text);
}
