/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Allocate and release across threads: all classes mixed, segments handed to
 * other threads through shared slots, threads that die with segments alive,
 * a budget so small that regions come and go and unused slices lose their
 * backing, and wrong releases that must be caught and change nothing.
 *
 *   pool [THREADS]     one round with so many threads, else a table of rounds
 *
 * A segment carries its own papers: a head with its handle and owner, and a
 * pattern behind it.  Whoever has the segment checks both.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "stress.h"

enum {
	HELD = 4,		/* segments that a thread may hold */
	OLD = 16,		/* handles of released segments it remembers */
	SLOTS = 32,
	THREADS_MOST = 256,
	MOOD_OPS = 256,		/* a thread likes the same classes for that */
};

/* The first bytes of a segment that is out. */
struct head {
	struct seg_handle handle;
	uint64_t bytes;
	uint64_t owner;
	uint64_t check;
};

/* What was done wrong on purpose, and what the library said it was. */
enum wrong { WRONG_OLD, WRONG_INTERIOR, WRONG_FOREIGN, WRONGS };

struct round {
	struct seg_pool *pool;
	struct seg_budget *budget;
	sem_t ended;		/* posted by each thread that ends */
	stress_count allocated, refused, handed_over, stale, threads;
	stress_count planted[WRONGS], caught[WRONGS];
	_Atomic(struct head *) slot[SLOTS];
};

/* Where one thread sits, and after its death another. */
struct seat {
	struct round *round;
	uint64_t owner;
	pthread_t thread;
	struct stress_random random;
	unsigned class_low, classes;	/* the mood */
	struct head *held[HELD];
	struct seg_handle old[OLD];
	unsigned olds;
	_Atomic bool ended;
};

/* No region ever shares a granule with it. */
static char foreign[64];

static void on_misuse(void *ctx, enum seg_misuse what, const void *address)
{
	static const enum wrong kind[] = {
		[SEG_MISUSE_STALE] = WRONG_OLD,
		[SEG_MISUSE_UNMAPPED] = WRONG_OLD,
		[SEG_MISUSE_INTERIOR] = WRONG_INTERIOR,
		[SEG_MISUSE_FOREIGN] = WRONG_FOREIGN,
	};
	struct round *round = ctx;

	stress_check(what != SEG_MISUSE_DOUBLE && what != SEG_MISUSE_OWNER,
		     "misuse %d of %p, which nobody planted", what, address);
	stress_add(&round->caught[kind[what]], 1);
}

/* ------------------------------------------------------------ segments */

static uint64_t check_of(const struct head *h)
{
	return h->handle.region * 3 + h->handle.generation * 5 +
	       (uintptr_t)h->handle.segment + h->bytes * 7 + h->owner * 11;
}

static void sign(struct head *h, uint64_t owner)
{
	h->owner = owner;
	h->check = check_of(h);
	stress_fill(h + 1, h->bytes - sizeof(*h), owner);
}

static void verify(const struct head *h)
{
	stress_check(h->handle.segment == h && h->check == check_of(h),
		     "the head of %p was overwritten", (const void *)h);
	stress_verify(h + 1, h->bytes - sizeof(*h), h->owner);
}

static size_t choose_bytes(struct seat *s)
{
	unsigned c = s->class_low + stress_below(&s->random, s->classes);
	size_t most = (size_t)SEG_MIN_BYTES << c;

	/* Anything above half of it is of that class. */
	return most - stress_below(&s->random, (uint32_t)most / 2);
}

static void *allocate_somehow(struct seat *s, size_t bytes, bool zeroed)
{
	struct timespec soon;

	if (zeroed)
		return seg_alloc_zeroed(s->round->pool, bytes);
	if (stress_below(&s->random, 16))
		return seg_alloc(s->round->pool, bytes);
	clock_gettime(CLOCK_MONOTONIC, &soon);
	soon.tv_nsec += 1000000;
	soon.tv_sec += soon.tv_nsec / 1000000000;
	soon.tv_nsec %= 1000000000;
	return seg_alloc_until(s->round->pool, bytes, &soon);
}

static struct head *allocate(struct seat *s)
{
	bool zeroed = stress_below(&s->random, 8) == 0;
	size_t bytes = choose_bytes(s);
	struct head *h = allocate_somehow(s, bytes, zeroed);
	int ret;

	if (!h) {
		stress_check(errno == ENOMEM, "seg_alloc(%zu): %s", bytes,
			     strerror(errno));
		stress_add(&s->round->refused, 1);
		return NULL;
	}
	stress_add(&s->round->allocated, 1);
	if (zeroed)
		stress_verify_zero(h, seg_size(s->round->pool, h));
	ret = seg_handle_of(s->round->pool, h, &h->handle);
	stress_check(!ret, "no handle of a new segment: %s", strerror(-ret));
	h->bytes = seg_size(s->round->pool, h);
	stress_check(h->bytes >= bytes && h->bytes < 2 * bytes + SEG_MIN_BYTES,
		     "%" PRIu64 " bytes for %zu", h->bytes, bytes);
	sign(h, s->owner);
	return h;
}

static void release(struct seat *s, struct head *h)
{
	struct seg_handle handle = h->handle;
	int ret;

	verify(h);
	if (stress_below(&s->random, 2))
		ret = seg_release(s->round->pool, h);
	else
		ret = seg_release_handle(s->round->pool, &handle);
	stress_check(!ret, "release of %p: %s", handle.segment,
		     strerror(-ret));
	s->old[s->olds++ % OLD] = handle;
}

/* ----------------------------------------------------- what must fail */

static void release_wrongly(struct seat *s, enum wrong kind, int expected,
			    int ret)
{
	stress_check(ret == expected, "wrong release, kind %d: %s, not %s",
		     kind, ret ? strerror(-ret) : "success",
		     strerror(-expected));
	stress_add(&s->round->planted[kind], 1);
}

/* A second release of the same hand-out, just now or some time ago. */
static void plant_old(struct seat *s)
{
	unsigned known = s->olds < OLD ? s->olds : OLD;

	if (known)
		release_wrongly(s, WRONG_OLD, -ESTALE, seg_release_handle(
			s->round->pool,
			&s->old[stress_below(&s->random, known)]));
}

static void plant_double(struct seat *s, struct head *h)
{
	struct seg_handle handle = h->handle;

	release(s, h);
	release_wrongly(s, WRONG_OLD, -ESTALE,
			seg_release_handle(s->round->pool, &handle));
}

static void plant_interior(struct seat *s, struct head *h)
{
	size_t offset = 1 + stress_below(&s->random, (uint32_t)h->bytes - 1);

	release_wrongly(s, WRONG_INTERIOR, -EINVAL,
			seg_release(s->round->pool, (char *)h + offset));
	verify(h);
}

static void plant_foreign(struct seat *s)
{
	void *address = (void *)~(uintptr_t)0xfff;

	if (stress_below(&s->random, 2))
		address = &foreign[stress_below(&s->random, sizeof(foreign))];
	release_wrongly(s, WRONG_FOREIGN, -EINVAL,
			seg_release(s->round->pool, address));
}

static void plant(struct seat *s, struct head **place)
{
	unsigned kind = stress_below(&s->random, 4);

	if (kind == 0) {
		plant_foreign(s);
	} else if (kind == 1 || !*place) {
		plant_old(s);
	} else if (kind == 2) {
		plant_interior(s, *place);
	} else {
		plant_double(s, *place);
		*place = NULL;
	}
}

/* --------------------------------------------------- a thread's doings */

/* Gives what it has, if anything, for what is there, if anything. */
static void hand_over(struct seat *s, struct head **place)
{
	unsigned i = stress_below(&s->random, SLOTS);

	/* acq_rel: release -> the thread that takes it; acquire <- who gave */
	*place = atomic_exchange_explicit(&s->round->slot[i], *place,
					  memory_order_acq_rel);
	if (!*place)
		return;
	stress_add(&s->round->handed_over, 1);
	verify(*place);
	sign(*place, s->owner);
}

static void probe_own(struct seat *s, const struct head *h)
{
	struct seg_region_info info = { .size = sizeof(info) };
	struct seg_handle now;
	void *segment = NULL;

	stress_check(!seg_resolve(s->round->pool, &h->handle, &segment) &&
		     segment == h, "the handle of %p gives %p", (const void *)h,
		     segment);
	stress_check(!seg_handle_of(s->round->pool, h, &now) &&
		     now.region == h->handle.region &&
		     now.generation == h->handle.generation,
		     "%p has another handle", (const void *)h);
	stress_check(!seg_region_of(s->round->pool, (const char *)h + h->bytes -
				    1, &info) &&
		     info.region == h->handle.region &&
		     info.unused < info.slices,
		     "%p is in another region", (const void *)h);
}

static void probe_old(struct seat *s)
{
	unsigned known = s->olds < OLD ? s->olds : OLD;
	void *segment;
	int ret;

	for (unsigned i = 0; i < known; i++) {
		ret = seg_resolve(s->round->pool, &s->old[i], &segment);
		stress_check(ret == -ESTALE, "an old handle resolves: %d", ret);
	}
	stress_add(&s->round->stale, known);
}

static void do_one(struct seat *s)
{
	struct head **place = &s->held[stress_below(&s->random, HELD)];
	unsigned what = stress_below(&s->random, 16);

	if (stress_below(&s->random, 1000) == 0)
		plant(s, place);
	else if (what < 4)
		hand_over(s, place);
	else if (what == 4)
		probe_old(s);
	else if (what == 5 && *place)
		probe_own(s, *place);
	else if (!*place)
		*place = allocate(s);
	else {
		release(s, *place);
		*place = NULL;
	}
}

static void choose_mood(struct seat *s)
{
	s->class_low = stress_below(&s->random, SEG_CLASSES);
	s->classes = 1 + stress_below(&s->random, SEG_CLASSES - s->class_low);
}

/* Ends with whatever it holds. */
static void *live(void *arg)
{
	struct seat *s = arg;
	unsigned ops = 500 + stress_below(&s->random, 1500);

	for (unsigned i = 0; i < ops && !stress_over(); i++) {
		if (i % MOOD_OPS == 0)
			choose_mood(s);
		do_one(s);
	}
	/* release -> replace() */
	atomic_store_explicit(&s->ended, true, memory_order_release);
	sem_post(&s->round->ended);
	return NULL;
}

/* ------------------------------------------------------------- a round */

static void seat_start(struct seat *s)
{
	atomic_store_explicit(&s->ended, false, memory_order_relaxed);
	stress_add(&s->round->threads, 1);
	s->thread = stress_start(live, s);
}

/* Puts a new thread where one has died. */
static void replace(struct seat *seats, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		/* acquire <- live() */
		if (!atomic_load_explicit(&seats[i].ended,
					  memory_order_acquire))
			continue;
		stress_join(seats[i].thread);
		seat_start(&seats[i]);
	}
}

static bool wait_for_end(struct round *round, uint64_t until_ns)
{
	struct timespec until = {
		.tv_sec = (time_t)(until_ns / 1000000000u),
		.tv_nsec = (long)(until_ns % 1000000000u),
	};

	while (sem_clockwait(&round->ended, CLOCK_MONOTONIC, &until))
		if (errno == ETIMEDOUT)
			return false;
	return true;
}

static void run(struct round *round, struct seat *seats, unsigned n,
		double seconds)
{
	uint64_t until_ns = stress_now_ns() + (uint64_t)(seconds * 1e9);

	stress_again();
	for (unsigned i = 0; i < n; i++)
		seat_start(&seats[i]);
	while (wait_for_end(round, until_ns) && stress_now_ns() < until_ns) {
		int ret = seg_pool_drain(round->pool, 0, NULL);

		stress_check(!ret, "seg_pool_drain: %s", strerror(-ret));
		replace(seats, n);
	}
	stress_run_for(0);
	for (unsigned i = 0; i < n; i++)
		stress_join(seats[i].thread);
}

/* Everything that the dead left behind. */
static uint64_t inherit(struct round *round, struct seat *seats, unsigned n)
{
	struct seat *heir = &seats[0];
	uint64_t found = 0;

	for (unsigned i = 0; i < n * HELD + SLOTS; i++) {
		struct head *h = i < SLOTS ? round->slot[i] :
			seats[(i - SLOTS) / HELD].held[(i - SLOTS) % HELD];

		if (!h)
			continue;
		release(heir, h);
		found++;
	}
	return found;
}

static void check_caught(struct round *round, uint64_t total)
{
	uint64_t planted = 0;

	for (int k = 0; k < WRONGS; k++) {
		uint64_t p = stress_value(&round->planted[k]);
		uint64_t c = stress_value(&round->caught[k]);

		stress_check(p == c, "wrong releases, kind %d: %" PRIu64
			     " planted, %" PRIu64 " caught", k, p, c);
		planted += p;
	}
	stress_check(planted == total, "%" PRIu64 " planted, %" PRIu64
		     " counted by the pool", planted, total);
}

static void print_head(void)
{
	printf("%7s %6s %9s %8s %9s %9s %7s %7s %8s %8s %6s\n", "threads",
	       "region", "allocs", "refused", "handed", "stale", "died",
	       "wrong", "mapped", "retired", "left");
}

static void print_round(struct round *round, unsigned n, uint64_t region_bytes,
			const struct seg_pool_stats *s, uint64_t left)
{
	printf("%7u %5uK %9" PRIu64 " %8" PRIu64 " %9" PRIu64 " %9" PRIu64
	       " %7" PRIu64 " %7" PRIu64 " %8" PRIu64 " %8" PRIu64
	       " %6" PRIu64 "\n", n, (unsigned)(region_bytes / 1024),
	       stress_value(&round->allocated), stress_value(&round->refused),
	       stress_value(&round->handed_over), stress_value(&round->stale),
	       stress_value(&round->threads), s->misuses_total,
	       s->regions_mapped_total, s->regions_retired_total, left);
}

static void check_end(struct round *round, struct seat *seats, unsigned n,
		      uint64_t region_bytes)
{
	struct seg_pool_stats s = stress_stats(round->pool);
	uint64_t left;

	stress_check(seg_pool_is_valid(round->pool),
		     "the pool is not valid with segments out");
	left = inherit(round, seats, n);
	stress_check(left == s.active, "%" PRIu64 " segments are out, %" PRIu64
		     " were left", s.active, left);
	check_caught(round, s.misuses_total);
	print_round(round, n, region_bytes, &s, left);
}

static void play_round(unsigned n, unsigned number, double seconds)
{
	static const uint64_t region_bytes[] = { 512 << 10, 128 << 10,
						 256 << 10 };
	uint64_t bytes = region_bytes[number % 3];
	struct seat *seats = calloc(n, sizeof(*seats));
	struct round round = { 0 };

	stress_check(seats, "no memory for %u threads", n);
	round.budget = stress_budget((4 << 20) + n * (64 << 10));
	round.pool = stress_pool((struct seg_pool_options){
		.budget = round.budget,
		.region_bytes = bytes,
		.decay_ms = 4,
		.wait_ms = SEG_NO_WAIT,
		.misuse = on_misuse,
		.misuse_ctx = &round,
		.ahead = (enum seg_ahead)(number % (SEG_AHEAD_BACK + 1)),
	});
	sem_init(&round.ended, 0, 0);
	for (unsigned i = 0; i < n; i++) {
		seats[i].round = &round;
		seats[i].owner = number * THREADS_MOST + i + 1;
		seats[i].random = stress_random_of(seats[i].owner);
	}
	run(&round, seats, n, seconds);
	check_end(&round, seats, n, bytes);
	stress_pool_end(round.pool);
	stress_budget_end(round.budget);
	sem_destroy(&round.ended);
	free(seats);
}

static void play_table(void)
{
	static const unsigned threads[] = { 1, 2, 4, 8, 16, 64 };
	unsigned most = stress_scale(64, 8);
	unsigned rounds = 0;

	for (size_t i = 0; i < sizeof(threads) / sizeof(*threads); i++)
		rounds += threads[i] <= most;
	for (unsigned i = 0; i < rounds; i++)
		play_round(threads[i], i, stress_seconds() / rounds);
}

int main(int argc, char **argv)
{
	unsigned threads = argc > 1 ? (unsigned)atoi(argv[1]) : 0;

	if (argc > 2 || (argc == 2 && (!threads || threads > THREADS_MOST))) {
		fprintf(stderr, "usage: %s [1 to %d threads]\n", argv[0],
			THREADS_MOST);
		return 2;
	}
	stress_begin("stress/pool");
	print_head();
	if (threads)
		play_round(threads, 0, stress_seconds());
	else
		play_table();
	return stress_end();
}
