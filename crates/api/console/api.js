// Calls of the admin routes. A refusal is thrown as the problem that the server wrote; a server that does not answer is told in the same
// form. The token stands in sessionStorage: it ends with the tab.

const KEY = "inventory-token";

/** The longest limit of an admin route is that of a check, 90 s. */
const LIMIT_MS = 100_000;

let needed = () => {};

/** Who is told that a token is required, or that the one in use will not do. */
export function onTokenNeeded(tell) {
  needed = tell;
}

export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

export function headers(value = token.get()) {
  return value ? { Authorization: `Bearer ${value}` } : {};
}

/** Whether another token is the cure. */
export function asksForToken(problem) {
  return problem.status === 401 || (problem.status === 403 && /missing-scope$/.test(problem.type ?? ""));
}

/** The problem of an answer that is none of 2xx. */
export async function problemOf(response) {
  const body = await response.json().catch(() => null);
  const title = body?.title ?? `The API answered ${response.status} ${response.statusText}`.trim();
  return { ...body, title, status: response.status };
}

/** A server that gives no answer. */
export function noAnswer(error) {
  const detail = error?.name === "TimeoutError" ? "no answer within its time limit" : "the connection was refused or broke";
  return { title: "The API does not answer", detail, status: 0 };
}

async function call(method, path, body, signal) {
  const limit = AbortSignal.timeout(LIMIT_MS);
  const request = { method, headers: headers(), cache: "no-store", signal: signal ? AbortSignal.any([signal, limit]) : limit };
  if (body !== undefined) {
    request.headers["Content-Type"] = "application/json";
    request.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(`/v1/admin${path}`, request);
    if (response.ok) return await response.json();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw noAnswer(error);
  }
  const problem = await problemOf(response);
  if (asksForToken(problem)) needed(problem);
  throw problem;
}

export const get = (path, signal) => call("GET", path, undefined, signal);
/** A POST is never cancelled with its page: what was begun is waited for. */
export const post = (path, body) => call("POST", path, body);
