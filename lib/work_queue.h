/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Work for the keeper: many threads push, the keeper takes all at once.
 *
 * A push is one compare-exchange on the head, a take is one exchange with
 * NULL, so there is no pop of a single item and hence no ABA: a pusher that
 * compares equal links to whatever is first now.
 * Guarantees: (W1) what the pusher wrote before is seen by the taker;
 * (W2) a push that the keeper did not take is followed by a wake-up, since
 * the signal is raised after the push and the keeper reads its ticket before
 * it takes.  Push is lock-free, take is wait-free.
 */
#ifndef SEG_WORK_QUEUE_H
#define SEG_WORK_QUEUE_H

#include "atomic.h"

struct work {
	struct work *next;	/* the pusher's, then the taker's */
	bool (*run)(struct work *work);	/* false: to be tried again later */
};

struct work_queue {
	struct atomic_ptr head;
	struct atomic_u32 signal;	/* grows with every push and kick */
};

void work_queue_push(struct work_queue *q, struct work *work);

/* Wakes the keeper without work. */
void work_queue_kick(struct work_queue *q);

/* All work, oldest first; NULL if there is none. */
struct work *work_queue_take_all(struct work_queue *q);

/* As of now. */
static inline bool work_queue_is_empty(const struct work_queue *q)
{
	return !ptr_load_relaxed(&q->head); /* relaxed: not followed */
}

/* To be read before looking for something to do ... */
uint32_t work_queue_ticket(struct work_queue *q);

/* ... and slept on when there was nothing: any push since ends the sleep. */
void work_queue_sleep(struct work_queue *q, uint32_t ticket,
		      uint64_t timeout_ns);

#endif
