/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See work_queue.h. */
#include "work_queue.h"

#include <stddef.h>

#include "os.h"

void work_queue_kick(struct work_queue *q)
{
	/* seq_cst: release -> work_queue_ticket(), after the push (W2) */
	u32_add_seq_cst(&q->signal, 1);
	os_futex_wake_all(&q->signal);
}

void work_queue_push(struct work_queue *q, struct work *work)
{
	/* relaxed: only compared and linked to, never followed here */
	void *first = ptr_load_relaxed(&q->head);

	do {
		work->next = first;
		/* release -> work_queue_take_all() (W1) */
	} while (!ptr_cas_weak_release(&q->head, &first, work));
	work_queue_kick(q);
}

struct work *work_queue_take_all(struct work_queue *q)
{
	/* acquire <- work_queue_push() (W1) */
	struct work *newest = ptr_exchange_acquire(&q->head, NULL);
	struct work *oldest = NULL;

	while (newest) {
		struct work *next = newest->next;

		newest->next = oldest;
		oldest = newest;
		newest = next;
	}
	return oldest;
}

uint32_t work_queue_ticket(struct work_queue *q)
{
	/* acquire <- work_queue_kick(): then its push is seen (W2) */
	return u32_load_acquire(&q->signal);
}

void work_queue_sleep(struct work_queue *q, uint32_t ticket,
		      uint64_t timeout_ns)
{
	os_futex_wait(&q->signal, ticket, timeout_ns);
}
