// Whose session this browser has: signing in and out, and hearing of it when another tab or the service changed that.
import { forgetUnsent } from './outbox.js';
import * as service from './service.js';
import { toast } from './toast.js';
import { say } from './words.js';

const NOBODY = { signed_in: false, tenant: null, key_required: true };
const REFUSED_MS = 5000; // a ban ends some time
const tabs = (() => { try { return new BroadcastChannel('zimg.session'); } catch { return null; /* no storage: each tab for itself */ } })();
const tell = (what) => tabs?.postMessage(what);

// Whose session it is; nobody's, with the service's `refused` sentence, where it lets the account in no more.
export async function whoIsHere() {
  try { return await service.session(); } catch (problem) {
    if (problem.status !== 403) throw problem;
    return { ...NOBODY, refused: problem.message };
  }
}

let waits = 0, waitTimer = 0;

// Who is refused is looked for again, until `act` is told who it is then, or nobody waits any more; `tell` is told why each
// time that it is still so.
export function waitToBeLetIn(act, tell, delay = REFUSED_MS) {
  stopWaiting();
  const mine = waits;
  waitTimer = setTimeout(async () => {
    const who = await whoIsHere().catch(() => null);
    if (mine !== waits) return;
    if (who && !who.refused) return act(who);
    if (who) tell(who.refused);
    waitToBeLetIn(act, tell);
  }, delay);
}

export function stopWaiting() {
  clearTimeout(waitTimer);
  waits += 1;
}

export async function signIn(key) {
  const who = await service.signIn(key);
  tell('in');
  return who;
}

// Who signs out leaves no prompt behind, in no tab.
export async function signOut() {
  try { await service.signOut(); } catch (problem) { return toast(problem.status ? problem.message : say('notReached')); }
  forgetUnsent();
  tell('out');
  location.reload();
}

const whenSeen = (act) => { if (document.hidden) document.addEventListener('visibilitychange', act, { once: true }); else act(); };

// `onChange` is told who it is now, once this is not whom the tab shows any more, and whether they signed out themselves.
export function watchSession(onChange) {
  let looks = 0, last = null; // whom the tab showed last

  async function look(isSignOut) {
    const mine = ++looks;
    const who = await whoIsHere().catch((problem) => (problem.status >= 400 && problem.status < 500 ? NOBODY : null));
    if (!who || mine !== looks || who.tenant === service.shownFor()) return;
    last = service.shownFor() ?? last;
    onChange(who, isSignOut);
    if (who.signed_in && last !== null && last !== who.tenant) whenSeen(() => toast(say('nowOf', { name: who.tenant })));
  }

  service.onSessionLost(() => look(false));
  tabs?.addEventListener('message', ({ data }) => look(data === 'out'));
}
