/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The gate: one holder, nobody sleeps for ever, and no request is lost. */
#include "explore.h"

#include <string.h>

#include "gate.h"

enum { CALLERS = 3 };

static struct gate gate;
static struct explore_cell guarded;
static struct atomic_u32 wanted[CALLERS];
static bool done[CALLERS];

static void open(void)
{
	memset(&gate, 0, sizeof(gate));
	memset(wanted, 0, sizeof(wanted));
	memset(done, 0, sizeof(done));
}

static void hold(unsigned thread)
{
	explore_write(&guarded, thread + 1);
	explore_pause();
	explore_check(explore_read(&guarded) == thread + 1);
}

static void lock_or_try(unsigned thread)
{
	if (thread < 2)
		gate_lock(&gate);
	else if (!gate_try(&gate))
		return;
	hold(thread);
	gate_unlock(&gate);
}

static const struct explore_twin lock_twins[] = {
	EXPLORE_TWIN("look, then lock", SPLIT, "gate_try", "cas"),
	EXPLORE_TWIN("blind lock", BLIND, "gate_try", "cas"),
	EXPLORE_TWIN("relaxed lock", RELAX, "gate_try", "cas"),
	EXPLORE_TWIN("relaxed unlock", RELAX, "gate_unlock", "exchange"),
	EXPLORE_TWIN("unlock in two steps", SPLIT, "gate_unlock", "exchange"),
	EXPLORE_TWIN("blind mark", BLIND, "wait_mark", "cas"),
	{ .name = NULL },
};

/* What cache_relieve() does: whoever holds it does what all others want. */
static void serve(void)
{
	do {
		if (!gate_try_or_ask(&gate))
			return;
		explore_write(&guarded, 1);
		for (unsigned i = 0; i < CALLERS; i++)
			done[i] |= u32_load_relaxed(&wanted[i]);
	} while (gate_unlock(&gate));
}

static void want_and_serve(unsigned thread)
{
	if (thread == 0) {
		gate_lock(&gate);
		hold(thread);
		if (gate_unlock(&gate))
			serve();
		return;
	}
	u32_store_relaxed(&wanted[thread], 1);
	serve();
}

static void all_done(void)
{
	for (unsigned i = 0; i < CALLERS; i++)
		explore_check(done[i] == (u32_load_relaxed(&wanted[i]) != 0));
	explore_check(gate_try(&gate));
}

static const struct explore_twin ask_twins[] = {
	EXPLORE_TWIN("asked in two steps", SPLIT, "gate_try_or_ask", "cas"),
	EXPLORE_TWIN("blind request", BLIND, "gate_try_or_ask", "cas"),
	EXPLORE_TWIN("request left out", SKIP, "gate_try_or_ask", "cas"),
	EXPLORE_TWIN("relaxed request", RELAX, "gate_try_or_ask", "cas"),
	EXPLORE_TWIN("relaxed unlock", RELAX, "gate_unlock", "exchange"),
	EXPLORE_TWIN("unlock in two steps", SPLIT, "gate_unlock", "exchange"),
	{ .name = NULL },
};

const struct explore_scenario explore_gate[] = {
	{ .name = "gate: lock against lock and try", .threads = 3,
	  .setup = open, .body = lock_or_try, .twins = lock_twins },
	{ .name = "gate: ask against unlock", .threads = 3, .setup = open,
	  .body = want_and_serve, .post = all_done, .twins = ask_twins },
	{ .name = NULL },
};
