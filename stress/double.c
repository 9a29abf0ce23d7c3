/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Two threads release the same segments at the same time: the one whose stash
 * owns them, by plain stores, and another one, by claims (see claim.h).  Of the
 * two releases of a segment one wins.  The other one gets an error; or, if the
 * owner was in the middle of its own, both get 0, and the claim is reported
 * when it is settled: a late loser.  Either way each is one misuse, and at the
 * end of each round the pool has counted exactly one for each segment.
 *
 * Meanwhile the owner is stopped at arbitrary instructions, by a signal whose
 * handler blocks, while the stashes are gathered: what was claimed then can't
 * be settled and becomes a stray.  The other thread ends now and then with its
 * claims open.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "pool.h"
#include "stress.h"

enum {
	SEGMENTS_MOST = 512,	/* of a round */
	CLASSES = 2,
	LIFE = 8,		/* rounds that the other thread lives */
	WAIT_YIELDS = 64,
	LATE_S = 60,		/* so long one is hoped for */
	KEEPER_S = 10,		/* so long its look may take */
};

/* How far a round is; each thread waits for what it needs. */
struct step {
	_Atomic unsigned value;
};

static struct seg_budget *budget;
static struct seg_pool *pool;
static struct seg_handle handles[SEGMENTS_MOST];
static int by_owner[SEGMENTS_MOST], by_other[SEGMENTS_MOST];
static unsigned segments;		/* of a round */
static struct step begun, taken, going, owner_done, other_done;
static pthread_t owner;
static unsigned stop_at;		/* the owner, before that segment */
static _Atomic bool ended;
static int gate[2];			/* a byte lets the owner go on */
static _Atomic unsigned stops;
static stress_count told;

static struct {
	uint64_t rounds, doubles, claims, late, stops, strays, gathers, others;
} seen;

/* --------------------------------------------------------------- steps */

static bool is_at(struct step *s, unsigned round)
{
	/* acquire <- reach() */
	return (int)(atomic_load_explicit(&s->value, memory_order_acquire) -
		     round) >= 0;
}

static void reach(struct step *s, unsigned round)
{
	/* release -> is_at() */
	atomic_store_explicit(&s->value, round, memory_order_release);
}

/* Without a wait that the kernel ends, so that both begin together. */
static bool await(struct step *s, unsigned round)
{
	for (unsigned i = 1; !is_at(s, round); i++) {
		if (atomic_load_explicit(&ended, memory_order_relaxed))
			return false;
		if (i % WAIT_YIELDS == 0)
			sched_yield();
	}
	return true;
}

/* ----------------------------------------------------------- the owner */

/* Only what a signal handler may do. */
static void stand_still(int signal)
{
	int saved = errno;
	char byte;

	(void)signal;
	atomic_fetch_add_explicit(&stops, 1, memory_order_relaxed);
	while (read(gate[0], &byte, 1) < 0 && errno == EINTR)
		;
	errno = saved;
}

static void take_all(unsigned round)
{
	struct stress_random random = stress_random_of(round);
	size_t bytes = (size_t)SEG_MIN_BYTES << stress_below(&random, CLASSES);

	for (unsigned i = 0; i < segments; i++) {
		void *segment = seg_alloc(pool, bytes);

		stress_check(segment, "seg_alloc: %s", strerror(errno));
		stress_fill(segment, SEG_MIN_BYTES, round * segments + i);
		stress_check(!seg_handle_of(pool, segment, &handles[i]),
			     "no handle of a new segment");
	}
	for (unsigned i = 0; i < segments; i++)
		stress_verify(handles[i].segment, SEG_MIN_BYTES,
			      round * segments + i);
}

/* Nobody allocates while they release, so an address is as good. */
static int release(unsigned i, bool by_address)
{
	return by_address ? seg_release(pool, handles[i].segment) :
			    seg_release_handle(pool, &handles[i]);
}

static void *own(void *arg)
{
	(void)arg;
	for (unsigned round = 1; await(&begun, round); round++) {
		take_all(round);
		reach(&taken, round);
		if (!await(&going, round))
			break;
		for (unsigned i = 0; i < segments; i++)
			by_owner[i] = release(i, round & 1);
		reach(&owner_done, round);
	}
	return NULL;
}

/* --------------------------------------------------- the other thread */

/* Whether the owner's stash has it, so that it is claimed. */
static bool is_claim(unsigned i)
{
	struct found f;

	return !pool_find_out(pool, handles[i].segment, &f) &&
	       owner_of(f.region, f.slice) != 0;
}

static void release_one_too(unsigned i, unsigned round)
{
	bool claim = is_claim(i);

	if (i == stop_at)
		stress_check(!pthread_kill(owner, SIGRTMIN), "pthread_kill");
	by_other[i] = release(i, round & 2);
	seen.claims += claim && !by_other[i];
}

/* From one round on; ends while the owner may still be at it. */
static void *release_too(void *arg)
{
	unsigned first = (unsigned)(uintptr_t)arg;

	for (unsigned round = first; round < first + LIFE; round++) {
		if (!await(&taken, round))
			break;
		reach(&going, round);
		for (unsigned i = 0; i < segments; i++)
			release_one_too(i, round);
		reach(&other_done, round);
	}
	return NULL;
}

/* ------------------------------------------------------ the controller */

static void on_misuse(void *ctx, enum seg_misuse what, const void *address)
{
	(void)ctx;
	stress_check(what == SEG_MISUSE_DOUBLE || what == SEG_MISUSE_STALE ||
		     what == SEG_MISUSE_UNMAPPED, "misuse %d of %p, which "
		     "nobody planted", what, address);
	stress_add(&told, 1);
}

static void gather(void)
{
	gather_all(&pool->allocator, true);
	/* relaxed: a number */
	seen.strays += u32_load_relaxed(&pool->allocator.stashes.strays);
	seen.gathers++;
}

/* The owner stands still, or will in a moment; and the claims are open.  It may
 * be in a read section, so nobody waits for these to end. */
static void gather_and_go_on(unsigned before)
{
	while (atomic_load(&stops) == before)
		sched_yield();
	gather();
	stress_check(write(gate[1], "", 1) == 1, "cannot open the gate");
	seen.stops++;
}

static void check_returns(void)
{
	for (unsigned i = 0; i < segments; i++) {
		int a = by_owner[i], b = by_other[i];

		stress_check((!a || a == -ESTALE) && (!b || b == -ESTALE),
			     "releases returned %d and %d", a, b);
		stress_check(!a || !b, "nobody released segment %u", i);
		seen.late += !a && !b;
	}
	seen.doubles += segments;
	seen.rounds++;
}

/* Nobody is in a section, so who gathers settles all claims and leaves nothing
 * cached; but the keeper may have been stopped while it had a stash closed, for
 * longer than a trim is patient. */
static struct seg_pool_stats at_rest(void)
{
	uint64_t start_ns = stress_now_ns();
	struct seg_pool_stats s;

	do {
		gather();
		stress_check(!seg_pool_trim(pool, NULL), "seg_pool_trim");
		s = stress_stats(pool);
	} while ((s.cached || s.mapped_bytes ||
		  s.misuses_total < seen.doubles) &&
		 stress_now_ns() - start_ns < KEEPER_S * 1000000000ull);
	return s;
}

static void check_round(void)
{
	struct seg_pool_stats s;

	check_returns();
	s = at_rest();
	stress_check(s.misuses_total == seen.doubles &&
			     stress_value(&told) == seen.doubles,
		     "%" PRIu64 " double releases, %" PRIu64 " counted, %"
		     PRIu64 " reported, %" PRIu64 " late", seen.doubles,
		     s.misuses_total, stress_value(&told), seen.late);
	stress_check(!s.active && !s.cached && !s.mapped_bytes, "%" PRIu64
		     " active, %" PRIu64 " cached, %" PRIu64 " bytes mapped",
		     s.active, s.cached, s.mapped_bytes);
}

/* In half of them the owner is stopped. */
static void play_round(unsigned round, struct stress_random *r)
{
	unsigned before = atomic_load(&stops);
	bool stop = stress_below(r, 2);

	/* Soon, so that most of the owner's releases are still to come. */
	stop_at = stop ? stress_below(r, segments / 8) : segments;
	reach(&begun, round);
	if (!stop && stress_below(r, 2)) {
		await(&taken, round);
		gather();
	}
	await(&other_done, round);
	if (stop)
		gather_and_go_on(before);
	await(&owner_done, round);
}

/* Without a late loser half of the protocol was not tested; but a checker makes
 * them rare, and one processor, too. */
static bool needs_late(void)
{
	cpu_set_t cpus;

	return stress_scale(1, 0) &&
	       (sched_getaffinity(0, sizeof(cpus), &cpus) ||
		CPU_COUNT(&cpus) > 1);
}

static bool goes_on(uint64_t start_ns)
{
	double seconds = (double)(stress_now_ns() - start_ns) / 1e9;

	return seconds < stress_seconds() ||
	       (!seen.late && needs_late() && seconds < LATE_S);
}

static void play(void)
{
	struct stress_random random = stress_random_of(0);
	uint64_t start_ns = stress_now_ns();
	pthread_t other = stress_start(release_too, (void *)(uintptr_t)1);

	owner = stress_start(own, NULL);
	for (unsigned round = 1; goes_on(start_ns); round++) {
		play_round(round, &random);
		if (round % LIFE == 0) {
			stress_join(other);
			other = stress_start(release_too,
					     (void *)(uintptr_t)(round + 1));
			seen.others++;
		}
		check_round();
	}
	atomic_store(&ended, true);
	stress_join(owner);
	stress_join(other);
}

static void report(void)
{
	printf("  rounds          %8" PRIu64 "  of %u segments, with %" PRIu64
	       " other threads\n", seen.rounds, segments, seen.others);
	printf("  double releases %8" PRIu64 "  each reported once\n",
	       seen.doubles);
	printf("  claims          %8" PRIu64 "  late losers %" PRIu64 "\n",
	       seen.claims, seen.late);
	printf("  gathers         %8" PRIu64 "  stops %" PRIu64 ", strays %"
	       PRIu64 "\n", seen.gathers, seen.stops, seen.strays);
	stress_check(seen.claims > 0, "nothing was claimed");
	stress_check(seen.late > 0 || !needs_late(), "no late loser");
}

int main(void)
{
	struct sigaction action = { .sa_handler = stand_still,
				    .sa_flags = SA_RESTART };

	stress_begin("stress/double");
	segments = stress_scale(SEGMENTS_MOST, 64);
	sigemptyset(&action.sa_mask);
	sigaction(SIGRTMIN, &action, NULL);
	stress_check(!pipe(gate), "no pipe: %s", strerror(errno));
	budget = stress_budget(64 << 20);
	pool = stress_pool((struct seg_pool_options){
		.budget = budget,
		.region_bytes = 256 << 10,
		.decay_ms = 20,
		.misuse = on_misuse,
	});
	play();
	report();
	stress_pool_end(pool);
	stress_budget_end(budget);
	return stress_end();
}
