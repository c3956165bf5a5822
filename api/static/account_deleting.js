// "Delete everything": call after call, each of a few seconds, until nothing is left that can go; and how far it is.
import { $, number, toast } from './account_parts.js';
import { submitOnce } from './pressing.js';
import * as service from './service.js';
import { say } from './words.js';

// `onStart` is called when it begins, `onDone` when it is over, `tell` tells a problem.
export function openDeleting({ onStart, onDone, tell }) {
  const show = (words) => { $('delete-progress').textContent = words; };

  async function deleteAll() {
    const path = `/v1/account/data?confirm=${encodeURIComponent($('confirm').value)}`;
    let removed = 0, done;
    do {
      done = await service.ask(path, { method: 'DELETE' });
      removed += done.removed;
      show(say('deletingSome', { n: removed, left: number(done.remaining) }));
    } while ((done.removed || done.canceled) && done.remaining > done.ending);
    return { removed, remaining: done.remaining };
  }

  async function start() {
    onStart();
    show(say('deleting'));
    try {
      const { removed, remaining } = await deleteAll();
      $('confirm').value = '';
      toast(remaining ? say('deletedSome', { n: remaining }) : say('deletedAll', { n: removed }));
      await onDone();
    } catch (problem) {
      tell(problem);
    } finally {
      show('');
    }
  }

  submitOnce($('delete-form'), start);
}
