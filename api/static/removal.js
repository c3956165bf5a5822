// Removing a card of what ended without a picture: gone for the eye at once, and for good when the next one goes, when the
// offer to take it back is over, or when the page is left.
import * as service from './service.js';
import { session } from './storage.js';
import { endToast, toast } from './toast.js';
import { say } from './words.js';

const LEAVING = 'zimg.removing'; // what went as the page was left may still be listed when it comes back
const GONE = new Set([404, 410]);

export function openRemoval({ onChange, onRemoved }) {
  const going = new Set([session.get(LEAVING)]);
  let pending = null;
  session.remove(LEAVING);

  async function finish(keepalive = false) {
    if (!pending) return;
    const { id } = pending;
    pending = null;
    going.add(id);
    if (keepalive) session.set(LEAVING, id);
    try {
      await service.remove(id, { keepalive });
    } catch (problem) {
      if (!GONE.has(problem.status)) {
        going.delete(id);
        onChange();
        return problem.isOfSession ? null : toast(problem.status ? problem.message : say('offline'));
      }
    }
    onRemoved(id);
  }

  function takeBack() {
    if (!pending) return false;
    pending = null;
    endToast();
    onChange();
    return true;
  }

  window.addEventListener('pagehide', () => { finish(true); endToast(); }); // it is final, also where the page comes back as it was left

  return {
    isRemoved: (id) => pending?.id === id || going.has(id),
    takeBack,
    // The session is over: what was not final yet stays.
    drop() { pending = null; endToast(); },
    remove(job) {
      finish();
      pending = job;
      onChange();
      toast(say('removed'), { words: say('undo'), run: takeBack, onGone: () => { if (pending === job) finish(); } });
    },
  };
}
