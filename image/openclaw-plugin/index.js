// ClawLama inside OpenClaw: people teach with /feedback, and small models get a prompt they can hold.
import { definePluginEntry } from "openclaw/plugin-sdk/plugin-entry";
import { noteFeedback, showLessons } from "./commands.js";
import { LearningApi } from "./api.js";
import { sharedReplies } from "./replies.js";
import { began, ended, quiet } from "./running.js";

// How long a command waits for a reply that is being prepared, or written.
const PREPARING_MS = 20_000;
const REPLY_MS = 120_000;

// Turns that reach us without OpenClaw's command parser: HTTP and `openclaw agent`. Their caller holds the
// operator token. On every other channel OpenClaw itself decides who may give commands.
const OPERATOR_CHANNELS = new Set([undefined, "webchat"]);

export default definePluginEntry({
  id: "clawlama",
  name: "ClawLama",
  description: "Feedback that teaches the model, and a prompt that fits it",
  register(api) {
    const { apiUrl, adapter, lean } = api.pluginConfig;
    const learning = new LearningApi(apiUrl, adapter, () => process.env.CLAWLAMA_API_TOKEN);
    const replies = sharedReplies(process.env.OPENCLAW_STATE_DIR, api.logger);

    const commands = {
      feedback: (sessionKey, text) => noteFeedback(learning, replies, sessionKey, text),
      lessons: () => showLessons(learning),
    };
    const handler = (command) => async (ctx) => {
      await quiet(ctx.sessionKey);
      return { text: await command(ctx.sessionKey, ctx.args) };
    };
    api.registerCommand({
      name: "feedback",
      description: "Teach me: say what my last reply should have been like",
      acceptsArgs: true,
      handler: handler(commands.feedback),
    });
    api.registerCommand({ name: "lessons", description: "Show what I learned last", handler: handler(commands.lessons) });

    api.on("message_received", (event) => {
      if (!event.content.startsWith("/")) began(event.sessionKey, PREPARING_MS);
    });

    api.on("before_agent_reply", async (event, ctx) => {
      const match = /^\/(feedback|lessons)(?:\s+([\s\S]*))?$/.exec(event.cleanedBody.trim());
      if (!match || !isPerson(ctx) || !OPERATOR_CHANNELS.has(ctx.channel)) {
        began(ctx.sessionKey, REPLY_MS);
        return undefined;
      }
      return { handled: true, reply: { text: await commands[match[1]](ctx.sessionKey, match[2]) } };
    });

    api.on("agent_end", (event, ctx) => {
      ended(ctx.sessionKey);
      if (event.success && isPerson(ctx) && ctx.sessionKey) replies.remember(ctx.sessionKey, event.messages);
    });

    if (lean) {
      api.on("before_prompt_build", () => ({ systemPrompt: lean.systemPrompt, toolsAllow: lean.toolsAllow }));
    }
  },
});

// Heartbeats, cron jobs, memory work and messages from other agents never count as a person's turn.
function isPerson(ctx) {
  const origin = ctx.inputProvenance?.kind;
  return ctx.trigger === "user" && (origin === undefined || origin === "external_user");
}
