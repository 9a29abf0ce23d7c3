/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reclaimers come, are asked and leave: no call after the end.  The source is
 * included for its thread-local flag, of which each fiber has one.
 */
#include "reclaim.c"

#include <string.h>

#include "explore.h"

enum { RECLAIMERS = 3 };

static struct reclaimers all;
static struct member {
	struct reclaimer *reclaimer;	/* memory of its own */
	struct explore_cell state;	/* used while it is there */
	struct atomic_u32 calls;
} members[RECLAIMERS];

bool *explore_inside(void)
{
	return &inside;
}

static struct member *member_of(const struct reclaimer *r)
{
	struct member *m = members;

	while (m->reclaimer != r)
		m++;
	return m;
}

static uint64_t give(struct reclaimer *r, uint64_t bytes)
{
	struct member *m = member_of(r);

	explore_read(&m->state);
	explore_pause();
	explore_read(&m->state);
	u32_add_relaxed(&m->calls, 1);
	explore_check(reclaim_ask(&all, bytes, RECLAIM_WILLING) == 0);	/* R3 */
	return bytes / 2;
}

static void report(struct reclaimer *r, struct seg_refusal *refusal,
		   struct pin_sums *pins)
{
	(void)pins;
	explore_read(&member_of(r)->state);
	refusal->cache_weight++;
}

static void join(unsigned i)
{
	struct member *m = &members[i];

	m->reclaimer = os_calloc(1, sizeof(*m->reclaimer));
	m->reclaimer->give = give;
	m->reclaimer->report = report;
	explore_write(&m->state, 1);
	reclaim_join(&all, m->reclaimer);
}

static void leave(unsigned i)
{
	reclaim_leave(&all, members[i].reclaimer);
	explore_free(&members[i].state);
	os_free(members[i].reclaimer);
}

static void two_are_in(void)
{
	memset(&all, 0, sizeof(all));
	memset(members, 0, sizeof(members));
	join(0);
	join(1);
}

/* ---- ask against leave ---- */

static void ask_or_leave(unsigned thread)
{
	if (thread == 0)
		reclaim_ask(&all, 64, RECLAIM_WILLING);
	else
		leave(thread - 1);
}

static void none_is_in(void)
{
	explore_check(!ptr_load_relaxed(&all.first));
	explore_check(!u64_load_relaxed(&all.count));
}

static const struct explore_twin leave_twins[] = {
	EXPLORE_TWIN("call begun in two steps", SPLIT, "call_begin", "cas"),
	EXPLORE_TWIN("blind call", BLIND, "call_begin", "cas"),
	EXPLORE_TWIN("calls not waited for", SKIP, "wait_for_calls", "add"),
	EXPLORE_TWIN("end of the call left out", SKIP, "call_end", "sub"),
	EXPLORE_TWIN("not unlinked", SKIP, "reclaim_leave", "store"),
	EXPLORE_TWIN_SWITCH("no grace period", explore_throw_grace_period),
	{ .name = NULL },
};

/* ---- ask against join and leave ---- */

static void join_or_ask(unsigned thread)
{
	struct seg_refusal refusal = { .size = sizeof(refusal) };

	if (thread == 0) {
		join(2);
	} else if (thread == 1) {
		leave(1);
	} else {
		reclaim_report(&all, &refusal, NULL);
		explore_check(refusal.cache_weight >= 1 &&
			      refusal.cache_weight <= 3);
	}
}

static void two_are_left(void)
{
	explore_check(u64_load_relaxed(&all.count) == 2);
}

static const struct explore_twin join_twins[] = {
	EXPLORE_TWIN("relaxed join", RELAX, "reclaim_link", "store_rel"),
	EXPLORE_TWIN("relaxed look", RELAX, "begin_with", "load"),
	EXPLORE_TWIN("link left out", SKIP, "reclaim_link", "store_relaxed"),
	{ .name = NULL },
};

const struct explore_scenario explore_reclaim[] = {
	{ .name = "reclaim: ask against two that leave", .threads = 3,
	  .setup = two_are_in, .body = ask_or_leave, .post = none_is_in,
	  .twins = leave_twins },
	{ .name = "reclaim: join, leave and a walk", .threads = 3,
	  .setup = two_are_in, .body = join_or_ask, .post = two_are_left,
	  .twins = join_twins },
	{ .name = NULL },
};
