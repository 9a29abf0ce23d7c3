/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Stashes under load: all classes, segments that one thread allocates and
 * another releases (each to its partner, three to one, in a ring), threads that
 * live shortly, threads that are stopped for long at arbitrary instructions
 * while others gather.  Four games:
 *
 *   tight    The segments that are out never need more than the limit, and
 *            often all of it: so nothing may be refused, whatever is parked.
 *   stopped  All but two workers stand still for a while; the others get on.
 *   brought  Many small segments at a time go to who releases them, so that
 *            they come back in parcels, up to the limit, while others trim and
 *            drain.
 *   many     A thousand threads at once in 64 MiB: nothing is refused.
 *
 * After each game all is released, and threads with stashes stay, but idle:
 * without any call everything goes back to the kernel.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "pool.h"
#include "stress.h"

enum {
	STEADY_MOST = 4,
	BRIEF_MOST = 2,		/* short lives at a time */
	SEATS = STEADY_MOST + BRIEF_MOST,
	MANY_MOST = 1000,
	MANY_STEPS = 1000,
	HELD = 48,		/* segments that a thread may hold */
	SLOTS = 8,		/* ... and that others have put before it */
	LIFE = 200,		/* steps of a brief one */
	TURN = 1 << 14,		/* hand-overs, then another topology */
	DECAY_MS = 20,
	GONE_MS = 5000,		/* everything is unmapped within that */
	WAIT_MS = 20000,
	WINDOW_MS = 50,
	HUNG_S = 60,
	TIGHT_BYTES = 12 << 20,
	LOOSE_BYTES = 32 << 20,
	BROUGHT_BYTES = 32 << 20,
	LOT_MOST = 160,		/* segments that go to another at a time */
};

/* The first bytes of a segment that is out. */
struct head {
	uint64_t bytes, owner, check;
	uint64_t by;		/* the number of the stash that it is of */
	struct head *next;	/* of a lot */
};

struct seat {
	_Alignas(64) stress_count steps;
	_Atomic(struct head *) slot[SLOTS];
	unsigned index;
	unsigned count;
	struct head *held[HELD];
	struct stress_random random;
	/* of the steady ones: see stopped.c */
	_Atomic unsigned stops;
	unsigned stops_sent;
	bool stopped;
	int gate[2];
	pthread_t thread;
	uint64_t steps_before;
};

static struct seg_budget *budget;
static struct seg_pool *pool;
static struct seat seats[SEATS];
static unsigned steady, brief, many;
static uint64_t fits;			/* bytes that may be out */
static _Alignas(64) stress_count out, out_most;
static stress_count given, foreign, lives, longest_ns, strays, gathers, full;
static bool in_lots;
static sem_t may_begin, idle, may_end;
static _Thread_local struct seat *self;

/* ------------------------------------------------------------ segments */

static uint64_t check_of(const struct head *h)
{
	return h->bytes * 3 + h->owner * 5 + (uintptr_t)h;
}

/* A mark in each 4 KiB: another owner of any part would be seen. */
static void sign(struct head *h, uint64_t owner)
{
	h->owner = owner;
	h->check = check_of(h);
	for (size_t at = SEG_MIN_BYTES / 2; at < h->bytes; at += SEG_MIN_BYTES)
		*(uint64_t *)((char *)h + at) = h->check + at;
}

static void verify(const struct head *h)
{
	stress_check(h->check == check_of(h), "the head of %p was overwritten",
		     (const void *)h);
	for (size_t at = SEG_MIN_BYTES / 2; at < h->bytes; at += SEG_MIN_BYTES)
		stress_check(*(const uint64_t *)((const char *)h + at) ==
			     h->check + at, "%p + %zu was overwritten",
			     (const void *)h, at);
}

/* Before it is taken, so that what is out always fits. */
static bool reserve(uint64_t bytes)
{
	uint64_t now = stress_add(&out, bytes) + bytes;

	if (now > fits) {
		stress_add(&out, 0 - bytes);
		return false;
	}
	stress_raise(&out_most, now);
	return true;
}

static uint64_t own_number(void)
{
	struct stash *st = stash_of(&pool->allocator.stashes);

	return st ? st->number : 0;
}

/* NULL: it might not fit. */
static struct head *allocate(unsigned class_index, uint64_t owner)
{
	uint64_t bytes = (uint64_t)SEG_MIN_BYTES << class_index;
	uint64_t start_ns = stress_now_ns();
	struct head *h;

	if (!reserve(bytes))
		return NULL;
	h = seg_alloc(pool, bytes);
	stress_raise(&longest_ns, stress_now_ns() - start_ns);
	stress_check(h, "%" PRIu64 " bytes refused after %.3f s, %" PRIu64
		     " are out and %" PRIu64 " fit: %s", bytes,
		     (double)(stress_now_ns() - start_ns) / 1e9,
		     stress_value(&out), fits, strerror(errno));
	h->bytes = bytes;
	h->by = own_number();
	h->next = NULL;
	sign(h, owner);
	return h;
}

static void release(struct head *h)
{
	uint64_t bytes = h->bytes;
	int ret;

	verify(h);
	if (h->by != own_number())
		stress_add(&foreign, 1);
	ret = seg_release(pool, h);
	stress_check(!ret, "seg_release: %s", strerror(-ret));
	stress_add(&out, 0 - bytes);
}

static void release_lot(struct head *h)
{
	while (h) {
		struct head *next = h->next;

		release(h);
		h = next;
	}
}

/* -------------------------------------------------------- a seat's doings */

/* Each to its partner, three to one, or in a ring; for a while. */
static struct seat *next_of(const struct seat *s)
{
	unsigned n = steady + brief;

	switch (stress_value(&given) / TURN % 3) {
	case 0:
		return &seats[(s->index ^ 1) % n];
	case 1:
		return &seats[s->index & ~3u];
	default:
		return &seats[(s->index + 1) % n];
	}
}

/* What it finds there comes back. */
static void hand_over(struct seat *s, struct head *h)
{
	struct seat *to = next_of(s);
	unsigned i = stress_below(&s->random, SLOTS);

	verify(h);
	/* acq_rel: release -> take_in(); acquire <- who gave that */
	h = atomic_exchange_explicit(&to->slot[i], h, memory_order_acq_rel);
	stress_add(&given, 1);
	release_lot(h);
}

static void take_in(struct seat *s)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		/* acquire <- hand_over() */
		struct head *h = atomic_exchange_explicit(&s->slot[i], NULL,
							  memory_order_acquire);

		release_lot(h);
	}
}

static void take(struct seat *s, unsigned class_index)
{
	struct head *h = allocate(class_index, s->index);

	if (h)
		s->held[s->count++] = h;
	else if (s->count)
		release(s->held[--s->count]);
	else
		take_in(s);
}

static void step(struct seat *s)
{
	unsigned what = stress_below(&s->random, 16);

	if (what < 3 && s->count)
		hand_over(s, s->held[--s->count]);
	else if (what < 4)
		take_in(s);
	else if (what < 6 && s->count)
		release(s->held[--s->count]);
	else if (s->count < HELD)
		take(s, stress_below(&s->random, SEG_CLASSES));
	stress_add(&s->steps, 1);
}

/* Many of few classes, so that magazines are filled and emptied. */
static void burst(struct seat *s)
{
	unsigned class_index = stress_below(&s->random, 3);
	unsigned n = stress_below(&s->random, HELD - s->count + 1);

	while (n-- && s->count < HELD)
		take(s, class_index);
	while (s->count && stress_below(&s->random, HELD))
		release(s->held[--s->count]);
}

/* Of one or two classes, to another one; or of another one. */
static void lot(struct seat *s)
{
	unsigned n = stress_below(&s->random, LOT_MOST);
	unsigned first = stress_below(&s->random, 2);
	struct head *all = NULL, *h = NULL;

	if (stress_below(&s->random, 4) == 0)
		take_in(s);
	do {
		h = allocate(first + stress_below(&s->random, 2), s->index);
		if (h) {
			h->next = all;
			all = h;
		}
	} while (h && n--);
	if (all)
		hand_over(s, all);
	else
		take_in(s);
}

static void let_go(struct seat *s)
{
	while (s->count)
		release(s->held[--s->count]);
	take_in(s);
}

static void live(struct seat *s, unsigned steps)
{
	for (unsigned i = 0; i < steps && !stress_over(); i++) {
		step(s);
		if (i % 64 == 63)
			burst(s);
		if (in_lots && i % 4 == 3)
			lot(s);
	}
}

/* Alive, idle, with a stash. */
static void rest(void)
{
	sem_post(&idle);
	while (sem_wait(&may_end))
		;
}

/* The signal waits until its handler finds the seat. */
static void may_be_stopped(struct seat *s)
{
	sigset_t set;

	self = s;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	stress_check(!pthread_sigmask(SIG_UNBLOCK, &set, NULL),
		     "pthread_sigmask");
}

static void *live_long(void *arg)
{
	struct seat *s = arg;

	may_be_stopped(s);
	while (!stress_over())
		live(s, LIFE);
	let_go(s);
	rest();
	return NULL;
}

/* Ends with what it holds, which is the next one's. */
static void *live_shortly(void *arg)
{
	struct seat *s = arg;

	live(s, 1 + stress_below(&s->random, LIFE));
	return NULL;
}

static void *raise_them(void *arg)
{
	struct seat *s = arg;

	while (!stress_over()) {
		stress_join(stress_start(live_shortly, s));
		stress_add(&lives, 1);
	}
	let_go(s);
	rest();
	return NULL;
}

/* ------------------------------------------------------ who is stopped */

/* Only what a signal handler may do. */
static void stand_still(int signal)
{
	int saved = errno;
	char byte;

	(void)signal;
	atomic_fetch_add_explicit(&self->stops, 1, memory_order_relaxed);
	while (read(self->gate[0], &byte, 1) < 0 && errno == EINTR)
		;
	errno = saved;
}

static bool is_stopped(struct seat *s)
{
	return atomic_load_explicit(&s->stops, memory_order_relaxed) ==
	       s->stops_sent;
}

/* All but one or two of those that can be. */
static void stop_some(struct stress_random *random)
{
	unsigned spared = stress_below(random, steady);

	for (unsigned i = 0; i < steady; i++) {
		struct seat *s = &seats[i];

		if (i == spared)
			continue;
		stress_sleep_ns(stress_below(random, 100000));
		stress_check(!pthread_kill(s->thread, SIGRTMIN),
			     "pthread_kill");
		s->stops_sent++;
		s->stopped = true;
	}
	for (unsigned i = 0; i < steady; i++)
		while (!is_stopped(&seats[i]))
			stress_sleep_ns(100000);
}

static void go_on(void)
{
	for (unsigned i = 0; i < steady; i++) {
		if (seats[i].stopped)
			stress_check(write(seats[i].gate[1], "", 1) == 1,
				     "cannot open the gate");
		seats[i].stopped = false;
	}
}

static uint64_t steps_done(void)
{
	uint64_t steps = 0;

	for (unsigned i = 0; i < SEATS; i++)
		if (!seats[i].stopped)
			steps += stress_value(&seats[i].steps);
	return steps;
}

/* Others gather meanwhile; not by a trim, which waits for readers. */
static void watch_window(void)
{
	uint64_t start_ns = stress_now_ns(), before = steps_done();

	do {
		stress_sleep_ns(WINDOW_MS * 1000000ull);
		gather_all(&pool->allocator, true);
		stress_add(&gathers, 1);
		/* relaxed: a number */
		stress_raise(&strays, u32_load_relaxed(
			&pool->allocator.stashes.strays));
		stress_check_budget(budget);
		stress_check(stress_now_ns() - start_ns <
				     HUNG_S * 1000000000ull,
			     "no step in %d s while others stand still",
			     HUNG_S);
	} while (steps_done() == before);
}

static void stop_and_watch(double seconds)
{
	struct stress_random random = stress_random_of(1000);
	uint64_t end_ns = stress_now_ns() + (uint64_t)(seconds * 1e9);

	while (stress_now_ns() < end_ns) {
		stop_some(&random);
		watch_window();
		go_on();
		stress_sleep_ns(stress_below(&random, 3000000));
	}
}

/* ------------------------------------------------- who takes parcels out */

static void count_parcels(void)
{
	struct stashes *all = &pool->allocator.stashes;

	for (uint32_t i = 1; i <= stashes_used(all); i++) {
		struct stash *st = stash_at(all, i);

		/* relaxed: a number */
		if (st && u32_load_relaxed(&st->inbox.parcels) >> INBOX_PARCELS)
			stress_add(&full, 1);
	}
}

static void trim_and_drain(double seconds)
{
	struct stress_random random = stress_random_of(2000);
	uint64_t end_ns = stress_now_ns() + (uint64_t)(seconds * 1e9);
	struct seg_drain d = { .size = sizeof(d) };

	while (stress_now_ns() < end_ns) {
		unsigned what = stress_below(&random, 32);

		stress_sleep_ns(stress_below(&random, 2000000));
		count_parcels();
		if (what == 0)
			stress_check(!seg_pool_trim(pool, NULL), "trim");
		else if (what == 1)
			stress_check(!seg_pool_drain(pool, 0, &d), "drain");
		else if (what == 2)
			gather_all(&pool->allocator, false);
		stress_check_budget(budget);
	}
}

/* -------------------------------------------------------------- a game */

static void begin(uint64_t limit, uint64_t may_be_out, int wait_ms)
{
	stress_again();
	atomic_store(&out_most, 0);
	atomic_store(&longest_ns, 0);
	fits = may_be_out;
	budget = stress_budget(limit);
	pool = stress_pool((struct seg_pool_options){
		.budget = budget,
		.region_bytes = 1 << 20,
		.decay_ms = DECAY_MS,
		.wait_ms = wait_ms,
	});
}

/* Nobody is in a call: only the library's own thread does it. */
static uint64_t await_unmapped(void)
{
	uint64_t start_ns = stress_now_ns(), ns;

	for (;;) {
		struct seg_pool_stats s = stress_stats(pool);

		ns = stress_now_ns() - start_ns;
		if (!s.mapped_bytes)
			break;
		stress_check(ns < GONE_MS * 1000000ull, "%" PRIu64 " of %"
			     PRIu64 " bytes mapped, %" PRIu64 " slices cached, "
			     "%d ms after the last call", s.mapped_bytes,
			     s.charged_bytes, s.cached, GONE_MS);
		stress_sleep_ns(1000000);
	}
	return ns;
}

static void end(const char *name, unsigned threads)
{
	struct seg_pool_stats s = stress_stats(pool);
	struct seg_budget_stats b = stress_budget_stats(budget);
	uint64_t metadata = s.metadata_bytes, cached = s.cached;
	uint64_t ns;

	stress_check(!stress_value(&out), "%" PRIu64 " bytes are out",
		     stress_value(&out));
	stress_check(!s.refusals_total && !s.misuses_total, "%" PRIu64
		     " refusals, %" PRIu64 " misuses", s.refusals_total,
		     s.misuses_total);
	ns = await_unmapped();
	printf("%-8s %8" PRIu64 " allocated, %" PRIu64 " KiB out at most, %"
	       PRIu64 " waits, the longest call %.3f ms\n", name,
	       s.allocations_total, stress_value(&out_most) / 1024,
	       b.waits_total, (double)stress_value(&longest_ns) / 1e6);
	printf("         metadata %" PRIu64 " KiB; %" PRIu64 " cached, all "
	       "unmapped %.0f ms after the last call\n", metadata / 1024,
	       cached, (double)ns / 1e6);
	for (unsigned i = 0; i < threads; i++)
		sem_post(&may_end);
}

static void close_pool(void)
{
	stress_pool_end(pool);
	stress_budget_end(budget);
}

static void await_idle(unsigned threads)
{
	for (unsigned i = 0; i < threads; i++)
		while (sem_wait(&idle))
			;
}

/* What main() does meanwhile. */
typedef void meanwhile_fn(double seconds);

static void play(const char *name, meanwhile_fn *meanwhile, uint64_t limit,
		 uint64_t may_be_out, double seconds)
{
	unsigned n = steady + brief;

	begin(limit, may_be_out, WAIT_MS);
	for (unsigned i = 0; i < n; i++) {
		seats[i].index = i;
		seats[i].random = stress_random_of(i);
		seats[i].thread = stress_start(i < steady ? live_long :
							    raise_them,
					       &seats[i]);
	}
	while (steps_done() < n)
		stress_sleep_ns(1000000);
	meanwhile(seconds);
	stress_run_for(0);
	await_idle(n);
	for (unsigned i = 0; i < n; i++)
		take_in(&seats[i]);	/* who gave after the other had gone */
	end(name, n);
	for (unsigned i = 0; i < n; i++)
		stress_join(seats[i].thread);
	close_pool();
}

/* ---------------------------------------------------- a thousand threads */

static void *live_among_many(void *arg)
{
	struct stress_random random = stress_random_of((uintptr_t)arg);
	unsigned first = stress_below(&random, 3);

	while (sem_wait(&may_begin))
		;
	for (unsigned i = 0; i < MANY_STEPS; i++) {
		unsigned class_index = first + stress_below(&random, 2);
		struct head *h = allocate(class_index, (uintptr_t)arg);

		if (i % 16 == 0)
			sched_yield();
		if (h)
			release(h);
	}
	rest();
	return NULL;
}

/* A struct for each thread and each region, and what tables there are. */
static void check_metadata(void)
{
	uint64_t bytes = stress_stats(pool).metadata_bytes;

	stress_check(bytes < many * sizeof(struct stash) + (4 << 20),
		     "%" PRIu64 " bytes of metadata for %u threads", bytes,
		     many);
}

static void play_many(void)
{
	static pthread_t threads[MANY_MOST];
	uint64_t start_ns = stress_now_ns();

	begin(64 << 20, 64 << 20, 0);
	for (unsigned i = 0; i < many; i++)
		threads[i] = stress_start(live_among_many,
					  (void *)(uintptr_t)(i + 1));
	for (unsigned i = 0; i < many; i++)
		sem_post(&may_begin);
	await_idle(many);
	end("many", many);
	check_metadata();
	for (unsigned i = 0; i < many; i++)
		stress_join(threads[i]);
	printf("         %u threads began and ended in %.1f s\n", many,
	       (double)(stress_now_ns() - start_ns) / 1e9);
	close_pool();
}

/* ----------------------------------------------------------------- main */

/* Blocked where threads begin: see may_be_stopped(). */
static void prepare_signal(void)
{
	struct sigaction action = { .sa_handler = stand_still,
				    .sa_flags = SA_RESTART };
	sigset_t set;

	sigemptyset(&action.sa_mask);
	sigaction(SIGRTMIN, &action, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static void prepare(void)
{
	prepare_signal();
	sem_init(&may_begin, 0, 0);
	sem_init(&idle, 0, 0);
	sem_init(&may_end, 0, 0);
	for (unsigned i = 0; i < SEATS; i++)
		stress_check(!pipe(seats[i].gate), "no pipe: %s",
			     strerror(errno));
	steady = stress_scale(STEADY_MOST, 3);
	brief = stress_scale(BRIEF_MOST, 1);
	many = stress_scale(MANY_MOST, 50);
}

int main(void)
{
	double third;

	stress_begin("stress/stash");
	prepare();
	third = stress_seconds() / 3;
	play("tight", stress_run_for, TIGHT_BYTES, TIGHT_BYTES, third);
	play("stopped", stop_and_watch, 1 << 30, LOOSE_BYTES, third);
	in_lots = true;
	play("brought", trim_and_drain, BROUGHT_BYTES, BROUGHT_BYTES, third);
	play_many();
	printf("given to others %" PRIu64 ", released by another %" PRIu64
	       ", short lives %" PRIu64 ", gathers beside stopped ones %" PRIu64
	       ", strays %" PRIu64 ", full inboxes seen %" PRIu64 "\n",
	       stress_value(&given), stress_value(&foreign),
	       stress_value(&lives), stress_value(&gathers),
	       stress_value(&strays), stress_value(&full));
	stress_check(stress_value(&foreign) && stress_value(&lives),
		     "nothing was released by another thread");
	stress_check(stress_value(&full), "no claims were brought");
	return stress_end();
}
