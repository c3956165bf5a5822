// "Delete everything": call after call, each of a few seconds, until nothing is left that can go; and how far it is.
import { $, number, toast } from './account_parts.js';
import { submitOnce } from './pressing.js';
import * as service from './service.js';
import { say } from './words.js';

const LATER_MS = 1000;      // where only jobs are left that are still ending
const LONGEST_MS = 120000;  // they are waited for: a worker that died lets go of its jobs within a minute

const later = () => new Promise((done) => setTimeout(done, LATER_MS));

// `onStart` is called when it begins, `onDone` when it is over, with how many jobs are left, `tell` tells a problem.
export function openDeleting({ onStart, onDone, tell }) {
  const show = (words) => { $('delete-progress').textContent = words; };

  async function deleteAll() {
    const path = `/v1/account/data?confirm=${encodeURIComponent($('confirm').value)}`;
    const until = Date.now() + LONGEST_MS;
    let removed = 0, done, isOver;
    do {
      done = await service.ask(path, { method: 'DELETE' });
      removed += done.removed;
      show(say('deletingSome', { n: removed, left: number(done.remaining) }));
      const isMoving = (done.removed || done.canceled) && done.remaining > done.ending;
      isOver = done.remaining === 0 || (!isMoving && Date.now() > until);
      if (!isOver && !isMoving) await later();
    } while (!isOver);
    return { removed, remaining: done.remaining };
  }

  async function start() {
    onStart();
    show(say('deleting'));
    try {
      const { removed, remaining } = await deleteAll();
      $('confirm').value = '';
      if (!remaining) toast(say('deletedAll', { n: removed }));
      await onDone(remaining);
    } catch (problem) {
      tell(problem);
    } finally {
      show('');
    }
  }

  submitOnce($('delete-form'), start);
}
