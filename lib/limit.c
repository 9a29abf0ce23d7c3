/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What happens when a pool has no slice left, in this order:
 *   - the pool's own slices, which may have come back meanwhile;
 *   - a new region, as large as regions of the class are;
 *   - idle regions of any class, node and pool under the budget are retired;
 *   - regions on their way to the kernel are waited for, if the caller waits
 *     at all: the keeper wakes us, mostly within a millisecond;
 *   - a smaller region, as large as fits under the limit, or as the kernel
 *     has memory for;
 *   - the caches of the budget give back a share of what they hold, and again
 *     for as long as that does not do;
 *   - whatever anybody releases: waiting, with growing pauses, until the
 *     deadline;
 *   - refusal.
 * These are steps 1, 2, 4, 5, 8, 9 and 10 of the reclaim contract; the others
 * come with per-thread caches, decommit and nodes.
 *
 * Progress: each step is lock-free but for the system calls of mapping; the
 * wait is bounded by the deadline, and every pause by 5 ms, so that even a
 * wake-up that never comes is a delay and no hang.
 */
#include <errno.h>
#include <stddef.h>

#include "os.h"
#include "pool.h"

enum {
	OPEN_ROUNDS = 64,	/* tries to take while another thread maps */
	RECLAIM_ROUNDS = 4,	/* of a call that does not wait */
	PATIENCE_NS = 2 * 1000 * 1000,	/* before a smaller region will do */
	PAUSE_FIRST_NS = 50 * 1000,
	PAUSE_MOST_NS = 5 * 1000 * 1000,
};

/* One allocation at the limit. */
struct attempt {
	struct class_pool *cp;
	size_t usual;		/* bytes of a region under the limit of now */
	uint64_t wanted;	/* from the caches, at the next ask */
	uint64_t asked_ns;	/* the last one, or the beginning */
	bool smaller;		/* a smaller region will do, too */
	bool ours;		/* others leave opening to us */
	bool refused;		/* by the kernel, in this try ... */
	int error;		/* ... or in any: the errno */
	struct taken taken;
};

static uint64_t room_now(struct seg_budget *budget)
{
	uint64_t word = budget_look(budget);

	return budget_word_limit(word) - budget_word_charged(word);
}

/* The largest region of at most those bytes that fits now; 0: none. */
static size_t fitting(struct class_pool *cp, size_t bytes)
{
	uint64_t room = room_now(cp->allocator->budget);

	while (bytes > room && bytes >= cp->slice_bytes)
		bytes /= 2;
	return bytes >= cp->slice_bytes ? bytes : 0;
}

/*
 * While another thread maps a region, its slices are worth waiting for, but
 * only so long: it may have been stopped.  Who begins to open looks once more:
 * the one before may just have finished.
 */
static bool take_or_begin_open(struct attempt *at)
{
	at->ours = false;
	for (int round = 0; round < OPEN_ROUNDS && !at->ours; round++) {
		if (round)
			os_yield();
		at->ours = class_pool_begin_open(at->cp);
		at->taken = class_pool_take(at->cp);
		if (at->taken.segment)
			return true;
	}
	return false;
}

static enum open_result open_bytes(struct attempt *at, size_t bytes)
{
	enum open_result result = class_pool_open(at->cp, bytes, &at->taken);

	if (result == OPEN_NO_MEMORY) {
		at->refused = true;
		at->error = errno;
	}
	return result;
}

static bool open_usual(struct attempt *at)
{
	if (fitting(at->cp, at->usual) == at->usual)
		return open_bytes(at, at->usual) == OPEN_DONE;
	budget_refuse(at->cp->allocator->budget);
	return false;
}

/* As large as limit and kernel allow. */
static bool open_smaller(struct attempt *at)
{
	size_t bytes = at->usual;

	while ((bytes = fitting(at->cp, bytes)) != 0)
		switch (open_bytes(at, bytes)) {
		case OPEN_DONE:
			return true;
		case OPEN_NO_MEMORY:
			bytes /= 2;
			break;
		case OPEN_NO_BUDGET:	/* another thread was faster */
			break;
		}
	return false;
}

/*
 * Retires what is idle, but not for what is on its way already: else all who
 * wait here would have a region retired each, over and over.
 */
static void make_room(struct attempt *at)
{
	struct seg_budget *budget = at->cp->allocator->budget;
	uint64_t coming = budget_coming(budget);

	if (at->usual > budget_word_limit(budget_look(budget)))
		return;
	if (!at->refused)
		coming += room_now(budget);
	if (coming < at->usual)
		budget_shed(budget, at->usual - coming);
}

static bool open_region(struct attempt *at)
{
	if (open_usual(at))
		return true;
	make_room(at);
	return at->smaller && open_smaller(at);
}

/* All but waiting. */
static bool try_all(struct attempt *at, bool smaller)
{
	uint64_t limit;
	bool done;

	limit = budget_word_limit(budget_look(at->cp->allocator->budget));
	at->usual = node_region_bytes(at->cp->class_index, limit,
				      at->cp->most_bytes);
	at->smaller = smaller;
	at->refused = false;
	done = take_or_begin_open(at) || open_region(at);
	if (at->ours)
		class_pool_end_open(at->cp);
	if (!done)
		at->taken = class_pool_take_any(at->cp);
	return at->taken.segment != NULL;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/*
 * A try that the kernel refused has given its charge back, and so wakes who
 * waits, others and itself.  So that they don't wake each other all the time,
 * the pause after it is one that nobody ends.
 */
static void pause_after(struct attempt *at, uint32_t ticket, uint64_t pause_ns)
{
	struct atomic_u32 nobody = { 0 };

	if (at->refused)
		os_futex_wait(&nobody, 0, pause_ns);
	else
		budget_wait_sleep(at->cp->allocator->budget, ticket, pause_ns);
}

/* So long what is coming is let come, since the beginning or the last ask. */
static bool is_patient(const struct attempt *at, uint64_t now_ns)
{
	return budget_coming(at->cp->allocator->budget) >=
		       at->cp->slice_bytes &&
	       now_ns - at->asked_ns < PATIENCE_NS;
}

/*
 * True: the caches gave something.  What is given lies scattered over regions,
 * and others may be faster: whoever has to ask again asks for twice as much.
 */
static bool reclaim(struct attempt *at, uint64_t now_ns)
{
	struct seg_budget *budget = at->cp->allocator->budget;

	at->asked_ns = now_ns;
	if (!reclaim_ask(&budget->reclaimers, at->wanted))
		return false;
	if (at->wanted < budget_word_limit(budget_look(budget)))
		at->wanted *= 2;
	return true;
}

static void reclaim_and_try(struct attempt *at)
{
	for (int round = 0; round < RECLAIM_ROUNDS; round++)
		if (!reclaim(at, at->asked_ns) || try_all(at, true))
			return;
}

/* The last try comes after the deadline, when a smaller region has to do. */
static void wait_for_any(struct attempt *at, uint64_t now_ns,
			 uint64_t deadline_ns)
{
	struct seg_budget *budget = at->cp->allocator->budget;
	uint64_t patient_until_ns = now_ns + PATIENCE_NS;
	uint64_t pause_ns = PAUSE_FIRST_NS;
	bool last = false;

	budget_wait_begin(budget);
	while (!last) {
		uint32_t ticket = budget_wait_ticket(budget);
		bool given;

		last = now_ns >= deadline_ns;
		if (try_all(at, last || now_ns >= patient_until_ns ||
				budget_deferred(budget) == 0))
			break;
		now_ns = os_now_ns();
		given = !is_patient(at, now_ns) && reclaim(at, now_ns);
		if (given || now_ns >= deadline_ns)
			continue;
		pause_after(at, ticket, least(pause_ns, deadline_ns - now_ns));
		pause_ns = least(2 * pause_ns, PAUSE_MOST_NS);
		now_ns = os_now_ns();
	}
	budget_wait_end(budget);
}

struct taken limit_allocate(struct class_pool *cp, uint64_t deadline_ns)
{
	uint64_t now_ns = os_now_ns();
	struct attempt at = { .cp = cp, .wanted = cp->slice_bytes,
			      .asked_ns = now_ns };
	bool waits = deadline_ns > now_ns;

	if (!try_all(&at, !waits)) {
		if (waits)
			wait_for_any(&at, now_ns, deadline_ns);
		else
			reclaim_and_try(&at);
	}
	if (at.error)
		class_pool_log_refusal(cp, at.error);
	return at.taken;
}
