// Removing a card of what ended without a picture: gone for the eye at once, and for good when the next one goes, when the
// offer to take it back is over, or when the page is left.
import * as service from './service.js';
import { endToast, toast } from './toast.js';
import { say } from './words.js';

const LEAVING = 'zimg.removing'; // what went as the page was left may still be listed when it comes back
const GONE = new Set([404, 410]);

export function openRemoval({ onChange, onRemoved }) {
  const going = new Set([sessionStorage.getItem(LEAVING)]);
  let pending = null;
  sessionStorage.removeItem(LEAVING);

  async function finish(keepalive = false) {
    if (!pending) return;
    const { id } = pending;
    pending = null;
    going.add(id);
    if (keepalive) sessionStorage.setItem(LEAVING, id);
    try {
      await service.remove(id, { keepalive });
    } catch (problem) {
      if (!GONE.has(problem.status)) {
        going.delete(id);
        onChange();
        return toast(problem.status ? problem.message : say('offline'));
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

  window.addEventListener('pagehide', () => finish(true));

  return {
    isRemoved: (id) => pending?.id === id || going.has(id),
    takeBack,
    remove(job) {
      finish();
      pending = job;
      onChange();
      toast(say('removed'), { words: say('undo'), run: takeBack, onGone: () => { if (pending === job) finish(); } });
    },
  };
}
