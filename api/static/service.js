// The API as the page uses it. Every problem becomes a Problem with the service's own sentence.
import { language } from './words.js';

const MEANT = 'X-Zimg-Tenant'; // the service refuses what is meant for another account than the session's
const SESSION = '/v1/session';

const TRIES = 10;
const LONGEST_WAIT_MS = 60000;

export class Problem extends Error {
  constructor(status, body, retryAfter, isOutdated = false) {
    super(body?.detail || body?.title || `HTTP ${status}`);
    this.status = status;
    this.code = body?.code ?? '';
    this.isOutdated = isOutdated; // asked before the last sign-in, or for another account: it says nothing of this session
    this.isOfSession = isOutdated || status === 401 || body?.field === MEANT; // and not of what was asked for
    this.retryAfterMs = Number(retryAfter) > 0 ? Number(retryAfter) * 1000 : null;
  }
}

function parsed(text) {
  try { return text ? JSON.parse(text) : null; } catch { return null; /* a proxy's own error page */ }
}

let signIns = 0;
let owner = null, owners = 0; // whose account this tab shows, and how often it was another's afterwards
let whenLost = () => {};

// Whose account this tab shows from now on, null for nobody's. Whoever waits for an answer meant for another gets none.
export function showFor(name) {
  if (owner !== null && name !== owner) owners += 1;
  owner = name;
}
export const shownFor = () => owner;
// `lost` is called when the service says that the session is over, or another's by now, or may be: a ban forbids everything.
export function onSessionLost(lost) { whenLost = lost; }

const ANSWER_MS = 30000; // a connection that died without a word must not keep what comes after it waiting
// What changes something is waited for; a picture and a request to draw have times of their own.
const patience = ({ method = 'GET', signal }) => signal ?? (/GET|HEAD/.test(method) ? AbortSignal.timeout(ANSWER_MS) : undefined);
// The same question may be answered later.
export const mayPass = ({ status }) => !status || status === 429 || status >= 500;

async function call(path, options, read) {
  const [asked, meant] = [signIns, owners];
  const meantFor = owner === null ? {} : { [MEANT]: owner };
  const headers = { 'Accept-Language': language, ...meantFor, ...(options.body ? { 'Content-Type': 'application/json' } : {}), ...options.headers };
  let answer, body;
  try {
    answer = await fetch(path, { ...options, headers, credentials: 'same-origin', signal: patience(options) });
    body = await (answer.ok ? read(answer) : answer.text());
  } catch {
    throw new Problem(0, null, null, meant !== owners);
  }
  if (meant !== owners) throw new Problem(0, null, null, true);
  if (answer.ok) return body;
  const problem = new Problem(answer.status, parsed(body), answer.headers.get('Retry-After'), asked !== signIns);
  if ((problem.isOfSession || problem.status === 403) && !problem.isOutdated && path !== SESSION) whenLost(problem);
  throw problem;
}

export const ask = async (path, options = {}) => parsed(await call(path, options, (answer) => answer.text()));

// What is refused because too much was asked for at once is asked for again, after the wait that the service names.
export async function patiently(asking) {
  for (let left = TRIES; ; left -= 1) {
    try {
      return await asking();
    } catch (problem) {
      if (problem.status !== 429 || left <= 1) throw problem;
      await new Promise((done) => setTimeout(done, Math.min(problem.retryAfterMs ?? 1000, LONGEST_WAIT_MS)));
    }
  }
}

export const send = (path, value, headers) => ask(path, { method: 'POST', body: JSON.stringify(value ?? {}), headers });

export const session = () => ask(SESSION);
export async function signIn(key) {
  const who = await send(SESSION, { key });
  signIns += 1;
  return who;
}
export const signOut = () => ask(SESSION, { method: 'DELETE' });
export const models = async (options) => (await ask('/v1/models', options)).data; // the default one first
export const account = (options) => ask('/v1/account', options);
export const usage = () => ask('/v1/usage');

// One key per press of Go: a request that is sent twice draws once.
export async function draw(request, key) {
  const answer = await ask('/v1/jobs', {
    method: 'POST', body: JSON.stringify(request), headers: { 'Idempotency-Key': key }, signal: AbortSignal.timeout(ANSWER_MS),
  });
  return answer.object === 'list' ? answer.data : [answer];
}

export const history = (cursor, limit) => ask(`/v1/jobs?limit=${limit}${cursor ? `&cursor=${cursor}` : ''}`);
export const look = (ids) => ask(`/v1/jobs?ids=${ids.join(',')}`);
export const job = (id) => ask(`/v1/jobs/${id}`);
export const cancel = (id) => send(`/v1/jobs/${id}/cancel`);
export const remove = (id, { keepalive = false } = {}) => ask(`/v1/jobs/${id}`, { method: 'DELETE', keepalive });

const PICTURE_MS = 120000; // some megabytes on a slow line
export const picture = async (id) => new Uint8Array(
  await call(`/i/${id}.png`, { signal: AbortSignal.timeout(PICTURE_MS) }, (answer) => answer.arrayBuffer()),
);
// Throws where a picture can not be had.
export const isThere = (id) => ask(`/i/${id}.png`, { method: 'HEAD' });
export const isSignUpOpen = async () => (await ask('/v1/sign-up')).open;
