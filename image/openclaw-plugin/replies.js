// The last thing each conversation was told, so that feedback knows what it is about. Kept on disk, because
// people answer after a restart too.
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { written } from "./words.js";

const LIMIT = 200; // conversations

export class Replies {
  #file;
  #logger;
  #bySession;
  #saving = Promise.resolve();

  constructor(file, logger) {
    this.#file = file;
    this.#logger = logger;
    this.#bySession = new Map(Object.entries(this.#load()));
  }

  /** Take the turn that ends `messages`: the user's last text and the assistant's last text after it. */
  remember(sessionKey, messages) {
    const turn = lastTurn(messages);
    if (!turn) return;
    this.#bySession.delete(sessionKey); // the newest goes last, so that the oldest is forgotten first
    this.#bySession.set(sessionKey, turn);
    while (this.#bySession.size > LIMIT) this.#bySession.delete(this.#bySession.keys().next().value);
    this.#saving = this.#saving.then(() => this.#save());
  }

  /** `{prompt, response}` or undefined. */
  last(sessionKey) {
    return this.#bySession.get(sessionKey);
  }

  #load() {
    if (!this.#file) return {};
    try {
      return JSON.parse(readFileSync(this.#file, "utf8"));
    } catch (error) {
      if (error.code !== "ENOENT") this.#logger.warn(`clawlama: ${this.#file} is not readable, starting empty: ${error}`);
      return {};
    }
  }

  async #save() {
    if (!this.#file) return;
    const partial = `${this.#file}.partial`;
    try {
      await mkdir(dirname(this.#file), { recursive: true, mode: 0o700 });
      await writeFile(partial, JSON.stringify(Object.fromEntries(this.#bySession)), { mode: 0o600, flush: true });
      await rename(partial, this.#file);
    } catch (error) {
      this.#logger.warn(`clawlama: the last replies could not be kept for a restart: ${error}`);
    }
  }
}

// OpenClaw calls register() several times in one process; all of them must see the same conversations.
const SHARED = Symbol.for("clawlama.replies");

export function sharedReplies(stateDir, logger) {
  const file = stateDir && join(stateDir, "clawlama", "replies.json");
  globalThis[SHARED] ??= new Map();
  if (!globalThis[SHARED].has(file)) globalThis[SHARED].set(file, new Replies(file, logger));
  return globalThis[SHARED].get(file);
}

function lastTurn(messages) {
  const asked = messages.findLastIndex((message) => message.role === "user" && written(message));
  const answered = messages.findLastIndex((message) => message.role === "assistant" && said(message));
  if (asked < 0 || answered < asked) return undefined;
  return { prompt: written(messages[asked]), response: said(messages[answered]) };
}

function said(message) {
  if (typeof message.content === "string") return message.content.trim();
  const parts = message.content.filter((part) => part.type === "text");
  return parts.map((part) => part.text).join("").trim();
}
