// What the commands say. One friendly line, or a clear one about what is wrong.
import { LearningUnavailable } from "./api.js";

const USAGE = "Tell me what my last reply should have been like: /feedback no emojis, please";

export async function noteFeedback(learning, replies, sessionKey, given) {
  const feedback = given?.trim();
  if (!feedback) return USAGE;
  const turn = sessionKey && replies.last(sessionKey);
  if (!turn) return "There is no reply of mine in this conversation yet. Ask me something first, then use /feedback.";
  return explained("I could not note that", async () => {
    const { status, pending, batch_size: size } = await learning.feedback(turn.prompt, turn.response, feedback);
    return `Noted: “${shortened(feedback)}”. ${when(status, pending, size)}`;
  });
}

export async function showLessons(learning) {
  return explained("I cannot show my lessons", async () => {
    const lessons = await learning.lessons(5);
    if (lessons.length === 0) return "No lessons yet. /feedback <text> starts one.";
    return ["My last lessons:", ...lessons.map(lessonLine)].join("\n");
  });
}

async function explained(what, work) {
  try {
    return await work();
  } catch (error) {
    if (error instanceof LearningUnavailable) return `${what}: ${error.message}. Nothing was lost; please try again.`;
    throw error;
  }
}

function when(status, pending, size) {
  if (status !== "gathering") return "The lesson is on its way; the next replies will show it.";
  const missing = size - pending;
  const more = missing === 1 ? "1 more" : `${missing} more`;
  return `${pending} of ${size} for the next lesson; it starts with ${more}, or when it has been quiet for a while.`;
}

function lessonLine(lesson) {
  const notes = lesson.feedback_count === 1 ? "1 note" : `${lesson.feedback_count} notes`;
  if (lesson.state === "done") return `• learned from ${notes}: version ${lesson.version}`;
  if (lesson.state === "running") return `• learning from ${notes}: ${Math.round(lesson.progress * 100)} %`;
  return `• ${lesson.state}, ${notes}${lesson.error ? `: ${shortened(lesson.error)}` : ""}`;
}

function shortened(text) {
  const line = text.replace(/\s+/g, " ");
  return line.length > 80 ? `${line.slice(0, 79)}…` : line;
}
