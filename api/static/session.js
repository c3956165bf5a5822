// Whose session this browser has: signing in and out, and hearing of it when another tab or the service changed that.
import { forgetUnsent } from './outbox.js';
import * as service from './service.js';
import { toast } from './toast.js';
import { say } from './words.js';

const NOBODY = { signed_in: false, tenant: null, key_required: true };
const tabs = (() => { try { return new BroadcastChannel('zimg.session'); } catch { return null; /* no storage: each tab for itself */ } })();
const tell = (what) => tabs?.postMessage(what);

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
    const who = await service.session().catch((problem) => (problem.status >= 400 && problem.status < 500 ? NOBODY : null));
    if (!who || mine !== looks || who.tenant === service.shownFor()) return;
    last = service.shownFor() ?? last;
    onChange(who, isSignOut);
    if (who.signed_in && last !== null && last !== who.tenant) whenSeen(() => toast(say('nowOf', { name: who.tenant })));
  }

  service.onSessionLost(() => look(false));
  tabs?.addEventListener('message', ({ data }) => look(data === 'out'));
}
