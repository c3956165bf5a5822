// The question for a key, over the page of pictures: with the reason where an account is let in no more, and a way out.
import { openMessage } from './message.js';
import { submitOnce } from './pressing.js';
import * as service from './service.js';
import { signIn, signOut, stopWaiting, waitToBeLetIn } from './session.js';
import { say } from './words.js';

const $ = (id) => document.getElementById(id);

// `onIn` is told who came in, by a key or because the ban is over.
export function openDoor(onIn) {
  const message = openMessage($('sign-in-error'));
  let refusal = ''; // why they are let in no more

  function wait(delay) {
    waitToBeLetIn((who) => { message.clear(); onIn(who); }, (why) => { refusal = why; message.show(); }, delay);
  }

  async function enter() {
    try {
      const who = await signIn($('key').value);
      $('key').value = '';
      onIn(who);
    } catch (problem) {
      message.ofPrompt(() => (problem.status ? problem.message : say('notReached')));
    }
  }

  function ask() {
    if ($('sign-in').open) return;
    $('sign-in').showModal();
    service.isSignUpOpen().then((isOpen) => { $('to-sign-up').hidden = !isOpen; }, () => {});
  }

  submitOnce($('sign-in-form'), enter);
  $('sign-in').addEventListener('cancel', (event) => event.preventDefault());
  // A browser lets that be prevented only once: a second Escape closes it all the same.
  $('sign-in').addEventListener('close', () => { if (service.shownFor() === null) ask(); });
  $('sign-out-here').addEventListener('click', signOut);

  return {
    tell: message.ofPrompt,
    // In another language: what the service said is asked for anew.
    sayAnew() {
      message.show();
      if (refusal) wait(0);
    },
    // Open for who is not signed in, closed for who is.
    show({ signed_in: isIn, refused = '' }) {
      stopWaiting();
      refusal = refused;
      $('sign-out-here').hidden = !refusal;
      if (refusal) {
        message.ofPrompt(() => refusal);
        wait();
      }
      if (!isIn) return ask();
      message.clear();
      $('sign-in').close();
    },
  };
}
