/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The keeper: the library's one thread.  It waits for grace periods, then runs
 * what was deferred (unmapping), and lets each pool look for idle regions.
 *
 * It takes the place of liburcu's call_rcu worker, which polls every 10 ms:
 * memory on its way to the kernel is charged until then, and threads at the
 * limit would wait for the poll.  The keeper is woken by the push.
 *
 * It runs while there is a duty that needs it.  Where none does, since the
 * process is to have no thread but its own, its work is done in turns that
 * others take: keeper_turn().  keeper_join/leave, keeper_turn and keeper_flush
 * block, the rest is lock-free.
 */
#ifndef SEG_KEEPER_H
#define SEG_KEEPER_H

#include <stdbool.h>
#include <stdint.h>

#include "work_queue.h"

/* Something to look at from time to time: a pool. */
struct keeper_duty {
	struct keeper_duty *next;
	/* Returns when to come again, in ns from now; OS_FOREVER: on a kick. */
	uint64_t (*run)(struct keeper_duty *duty, uint64_t now_ns);
	/* In the child of a fork, while nobody else is there; may be NULL. */
	void (*forked)(struct keeper_duty *duty);
	bool no_thread;		/* turns will do */
};

/* 0, or -EAGAIN if no thread can be had. */
int keeper_join(struct keeper_duty *duty);
void keeper_leave(struct keeper_duty *duty);

/* From now on all duties need the thread.  0, or -EAGAIN as above. */
int keeper_start(void);

/* If there is no thread: does what it would do now, and returns when to come
 * again, in ns; OS_FOREVER: nothing is to be done, or the thread does it. */
uint64_t keeper_turn(void);

/* The same for who needs what is on its way, unless in a read section.  False:
 * there is a thread. */
bool keeper_help(void);

/* Runs the work after a grace period that begins later than this call. */
void keeper_defer(struct work *work);

/* There is something to look at again. */
void keeper_kick(void);

/* Between these the keeper does nothing; blocking, for a walk of checks. */
void keeper_hold(void);
void keeper_let_go(void);

/* Whether the calling thread does the keeper's work, in the keeper or in a
 * flush: what must not be waited for then is not asked for. */
bool keeper_at_work(void);

/* Counts the forks that led to this process: what was made before the last one
 * is not to be used here. */
uint64_t keeper_process(void);

/* Does all deferred work now, in this thread; what fails stays deferred. */
void keeper_flush(void);

#endif
