/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See gate.h. */
#include "gate.h"

#include "backoff.h"
#include "os.h"

#ifndef GATE_SPINS
#define GATE_SPINS 64
#endif

bool gate_try_long(struct gate *gate)
{
	struct backoff backoff = BACKOFF_INIT;

	for (int i = 0; i < GATE_SPINS; i++) {
		if (gate_try(gate))
			return true;
		backoff_pause(&backoff);
	}
	return false;
}

/* Says that somebody sleeps; false: it is not held any more. */
static bool wait_mark(struct gate *gate, uint32_t *ret_word)
{
	uint32_t old = u32_load_relaxed(&gate->word); /* relaxed: compared */

	do {
		if (!(old & GATE_HELD))
			return false;
		*ret_word = old | GATE_WAITED;
		/* relaxed: only tells gate_unlock() to wake; retries as
		 * gate_try() */
	} while (!u32_cas_weak_relaxed(&gate->word, &old, *ret_word));
	return true;
}

void gate_lock_slowly(struct gate *gate)
{
	uint32_t word;

	if (gate_try_long(gate))
		return;
	while (!gate_try(gate))
		if (wait_mark(gate, &word))
			os_futex_wait(&gate->word, word, OS_FOREVER);
}

bool gate_try_or_ask(struct gate *gate)
{
	uint32_t old = u32_load_relaxed(&gate->word); /* relaxed: compared */
	uint32_t new;

	do {
		new = old | (old & GATE_HELD ? GATE_ASKED : GATE_HELD);
		/* acq_rel: acquire as gate_try(); release -> gate_unlock(),
		 * what is asked for (G3); retries as gate_try() */
	} while (!u32_cas_weak_acq_rel(&gate->word, &old, new));
	return !(old & GATE_HELD);
}

void gate_wake(struct gate *gate)
{
	os_futex_wake_all(&gate->word);
}
