// The API as the page uses it. Every problem becomes a Problem with the service's own sentence.
import { language } from './words.js';

export class Problem extends Error {
  constructor(status, body) {
    super(body?.detail || body?.title || `HTTP ${status}`);
    this.status = status;
    this.code = body?.code ?? '';
  }
}

export async function ask(path, options = {}) {
  const headers = { 'Accept-Language': language, ...(options.body ? { 'Content-Type': 'application/json' } : {}), ...options.headers };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers, credentials: 'same-origin' });
  } catch {
    throw new Problem(0, null);
  }
  const text = await answer.text();
  let body = null;
  try { body = text ? JSON.parse(text) : null; } catch { /* a proxy's own error page */ }
  if (!answer.ok) throw new Problem(answer.status, body);
  return body;
}

export const send = (path, value, headers) => ask(path, { method: 'POST', body: JSON.stringify(value ?? {}), headers });

export const session = () => ask('/v1/session');
export const signIn = (key) => send('/v1/session', { key });
export const signOut = () => ask('/v1/session', { method: 'DELETE' });
export const model = async () => (await ask('/v1/models')).data[0];
export const usage = () => ask('/v1/usage');

// One key per press of Go: a request that is sent twice draws once.
export async function draw(request) {
  const answer = await send('/v1/jobs', request, { 'Idempotency-Key': crypto.randomUUID?.() ?? String(Math.random()) });
  return answer.object === 'list' ? answer.data : [answer];
}

export const history = (cursor, limit) => ask(`/v1/jobs?limit=${limit}${cursor ? `&cursor=${cursor}` : ''}`);
export const look = (ids) => ask(`/v1/jobs?ids=${ids.join(',')}`);
export const job = (id) => ask(`/v1/jobs/${id}`);
export const cancel = (id) => send(`/v1/jobs/${id}/cancel`);
export const remove = (id) => ask(`/v1/jobs/${id}`, { method: 'DELETE' });
