/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A lock that can be left a request: who must not wait for it asks, and who
 * holds it looks after the request when it lets go.
 *
 *   | asked | waited | held |
 *
 * Guarantees: (G1) one holder at a time. (G2) gate_try_or_ask() either gets the
 * gate or its request is seen by the holder's gate_unlock(): both change the
 * one word, so one comes first.  (G3) Who asked did so after what it wants
 * looked after (release), and the holder that is told sees that (acquire).
 *
 * gate_lock() blocks: it spins for about as long as the gate is usually held,
 * then sleeps.  The others are lock-free.
 */
#ifndef SEG_GATE_H
#define SEG_GATE_H

#include "atomic.h"

enum { GATE_HELD = 1, GATE_WAITED = 2, GATE_ASKED = 4 };

struct gate {
	struct atomic_u32 word;
};

/* False: another thread holds it. */
static inline bool gate_try(struct gate *gate)
{
	uint32_t old = u32_load_relaxed(&gate->word); /* relaxed: compared */

	do {
		if (old & GATE_HELD)
			return false;
		/* acquire <- gate_unlock(); retries when the word changed */
	} while (!u32_cas_weak_acquire(&gate->word, &old, old | GATE_HELD));
	return true;
}

void gate_lock_slowly(struct gate *gate);

static inline void gate_lock(struct gate *gate)
{
	if (!gate_try(gate))
		gate_lock_slowly(gate);
}

/* False: another thread holds it, and will look after the request. */
bool gate_try_or_ask(struct gate *gate);

/* The same, but it spins for a while. */
bool gate_try_long(struct gate *gate);

void gate_wake(struct gate *gate);

/* True: somebody asked. */
static inline bool gate_unlock(struct gate *gate)
{
	/* acq_rel: release -> gate_try(), gate_try_or_ask(); acquire <-
	 * gate_try_or_ask() that asked (G3) */
	uint32_t old = u32_exchange_acq_rel(&gate->word, 0);

	if (old & GATE_WAITED)
		gate_wake(gate);
	return old & GATE_ASKED;
}

#endif
