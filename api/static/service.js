// The API as the page uses it. Every problem becomes a Problem with the service's own sentence.
import { language } from './words.js';

export class Problem extends Error {
  constructor(status, body, retryAfter) {
    super(body?.detail || body?.title || `HTTP ${status}`);
    this.status = status;
    this.code = body?.code ?? '';
    this.retryAfterMs = Number(retryAfter) > 0 ? Number(retryAfter) * 1000 : null;
  }
}

export async function ask(path, options = {}) {
  const headers = { 'Accept-Language': language, ...(options.body ? { 'Content-Type': 'application/json' } : {}), ...options.headers };
  let answer, text;
  try {
    answer = await fetch(path, { ...options, headers, credentials: 'same-origin' });
    text = await answer.text();
  } catch {
    throw new Problem(0, null);
  }
  let body = null;
  try { body = text ? JSON.parse(text) : null; } catch { /* a proxy's own error page */ }
  if (!answer.ok) throw new Problem(answer.status, body, answer.headers.get('Retry-After'));
  return body;
}

export const send = (path, value, headers) => ask(path, { method: 'POST', body: JSON.stringify(value ?? {}), headers });

export const session = () => ask('/v1/session');
export const signIn = (key) => send('/v1/session', { key });
export const signOut = () => ask('/v1/session', { method: 'DELETE' });
export const model = async () => (await ask('/v1/models')).data[0];
export const usage = () => ask('/v1/usage');

const DRAW_MS = 30000; // a connection that died without a word must not keep what comes after it waiting

// One key per press of Go: a request that is sent twice draws once.
export async function draw(request, key) {
  const answer = await ask('/v1/jobs', {
    method: 'POST', body: JSON.stringify(request), headers: { 'Idempotency-Key': key }, signal: AbortSignal.timeout(DRAW_MS),
  });
  return answer.object === 'list' ? answer.data : [answer];
}

export const history = (cursor, limit) => ask(`/v1/jobs?limit=${limit}${cursor ? `&cursor=${cursor}` : ''}`);
export const look = (ids) => ask(`/v1/jobs?ids=${ids.join(',')}`);
export const job = (id) => ask(`/v1/jobs/${id}`);
export const cancel = (id) => send(`/v1/jobs/${id}/cancel`);
export const remove = (id, { keepalive = false } = {}) => ask(`/v1/jobs/${id}`, { method: 'DELETE', keepalive });
export const isSignUpOpen = async () => (await ask('/v1/sign-up')).open;
