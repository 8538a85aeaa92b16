// Our API, as the plugin needs it. Every failure becomes a sentence for the person in the chat.
const TIMEOUT_MS = 10_000;

export class LearningUnavailable extends Error {}

export class LearningApi {
  constructor(url, adapter, token) {
    this.url = url.replace(/\/+$/, "");
    this.adapter = adapter;
    this.token = token;
  }

  /** Hand one piece of feedback over; answers `{lesson_id, status, pending, batch_size}` once it is safely stored. */
  feedback(prompt, response, feedback) {
    const body = { lora_id: this.adapter, prompt, response, feedback };
    return this.#call("/v1/feedback?wait=false", { method: "POST", body: JSON.stringify(body) });
  }

  /** The newest lessons, newest first. */
  async lessons(limit) {
    const answer = await this.#call(`/v1/lessons?limit=${limit}`, { method: "GET" });
    return answer.lessons;
  }

  async #call(path, request) {
    const headers = { authorization: `Bearer ${this.token() ?? ""}`, "content-type": "application/json" };
    let response;
    let body;
    try {
      response = await fetch(this.url + path, { ...request, headers, signal: AbortSignal.timeout(TIMEOUT_MS) });
      body = await response.text();
    } catch (error) {
      const why = error.name === "TimeoutError" ? `did not answer in ${TIMEOUT_MS / 1000} s` : "cannot be reached";
      throw new LearningUnavailable(`the learning service at ${this.url} ${why}`);
    }
    const parsed = parse(body);
    if (response.ok && parsed !== undefined) return parsed;
    if (response.status === 401 || response.status === 403) {
      throw new LearningUnavailable("the learning service refused my token; restarting clawlama renews it");
    }
    throw new LearningUnavailable(`the learning service answered ${response.status}: ${reason(parsed, body)}`);
  }
}

function parse(body) {
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}

function reason(parsed, body) {
  const message = parsed?.error?.message ?? parsed?.error ?? parsed?.detail ?? body;
  return (typeof message === "string" ? message : JSON.stringify(message)).slice(0, 300) || "no explanation";
}
