// Looking at open jobs until they end: those that come next often, all of them now and then. And at why others failed.
import { isOpen } from './cards.js';
import * as service from './service.js';

const LOOK_MS = 700;      // at the jobs that come next
const LOOK_ALL_MS = 4000; // at all open ones
const AGAIN_MS = 3000;    // after no answer
const NEAR = 16;
const AT_ONCE = 100;      // of one question

// `jobs` gives what is known, newest first. `onSeen` takes a job, `onMissing` the id of one that is no more, `onAnswer`
// whether the service answered.
export function openLooking({ jobs, onSeen, onMissing, onAnswer }) {
  let timer = 0, lastFullLook = -LOOK_ALL_MS;

  function nearest() {
    const open = jobs().filter(isOpen).reverse();
    const isFull = performance.now() - lastFullLook > LOOK_ALL_MS;
    if (isFull) lastFullLook = performance.now();
    const running = open.filter((job) => job.status !== 'queued');
    return [...running, ...open.filter((job) => job.status === 'queued')].slice(0, isFull ? AT_ONCE : NEAR);
  }

  async function look() {
    const near = nearest();
    if (!near.length) return;
    const answer = await service.look(near.map((job) => job.id));
    const found = new Set(answer.data.map((job) => job.id));
    for (const job of answer.data) onSeen(job);
    for (const job of near) if (!found.has(job.id)) onMissing(job.id);
    onAnswer(true);
  }

  function keepLooking(delay = LOOK_MS) {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      try {
        await look();
        if (jobs().some(isOpen)) keepLooking();
      } catch (problem) {
        if (!problem.isOfSession) onAnswer(false);
        keepLooking(problem.isOutdated ? LOOK_MS : AGAIN_MS);
      }
    }, delay);
  }

  // Why a job failed is told in the language that it is asked in.
  async function lookAtFailed() {
    const failed = jobs().filter((job) => job.error).map((job) => job.id);
    for (let at = 0; at < failed.length; at += AT_ONCE) {
      const answer = await service.look(failed.slice(at, at + AT_ONCE)).catch(() => ({ data: [] })); // or it stays as it was
      answer.data.forEach(onSeen);
    }
  }

  return { keepLooking, lookAtFailed, stop: () => clearTimeout(timer) };
}
