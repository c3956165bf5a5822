// The question for a key, over the page of pictures: with the reason where an account is let in no more, and a way out.
import { submitOnce } from './pressing.js';
import * as service from './service.js';
import { signIn, signOut, stopWaiting, waitToBeLetIn } from './session.js';
import { say } from './words.js';

const $ = (id) => document.getElementById(id);

// `onIn` is told who came in, by a key or because the ban is over.
export function openDoor(onIn) {
  const tell = (words) => { $('sign-in-error').textContent = words; };

  async function enter() {
    try {
      const who = await signIn($('key').value);
      $('key').value = '';
      onIn(who);
    } catch (problem) {
      tell(problem.status ? problem.message : say('notReached'));
    }
  }

  function ask() {
    if ($('sign-in').open) return;
    $('sign-in').showModal();
    service.isSignUpOpen().then((isOpen) => { $('to-sign-up').hidden = !isOpen; }, () => {});
  }

  submitOnce($('sign-in-form'), enter);
  $('sign-in').addEventListener('cancel', (event) => event.preventDefault());
  $('sign-out-here').addEventListener('click', signOut);

  return {
    tell,
    // Open for who is not signed in, closed for who is.
    show({ signed_in: isIn, refused = '' }) {
      stopWaiting();
      $('sign-out-here').hidden = !refused;
      if (refused) {
        tell(refused);
        waitToBeLetIn((who) => { tell(''); onIn(who); });
      }
      if (!isIn) return ask();
      tell('');
      $('sign-in').close();
    },
  };
}
