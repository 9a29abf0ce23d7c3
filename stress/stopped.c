/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Lock freedom: threads are stopped at arbitrary instructions, for long, by a
 * signal whose handler blocks, and the others must go on.  In each window up
 * to all but two workers stand still; what the running ones do meanwhile is
 * counted, and none at all is a failure.
 *
 * A thread that stands still in a read section delays all unmapping: deferred
 * bytes are shown, and the budget has room for them.
 *
 * Each worker makes one call before, since the first call of a thread
 * registers it with liburcu, which is not lock-free.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "rcu.h"
#include "stress.h"

enum {
	WORKERS_MOST = 6,
	HAND = 8,
	WINDOWS_MOST = 100000,
	WINDOW_MS = 100,
	HUNG_S = 60,		/* a window without progress is given so long */
};

static const uint64_t ns_per_ms = 1000000;

struct worker {
	/* written by the worker, read by the controller */
	_Alignas(64) stress_count pairs;
	_Atomic unsigned stops;		/* times that the handler was entered */
	_Atomic unsigned stops_inside;	/* of these, in a read section */
	/* the worker's */
	uint64_t owner;
	unsigned count;
	void *held[HAND];
	size_t bytes[HAND];
	/* the controller's */
	pthread_t thread;
	int gate[2];			/* a byte lets the worker go on */
	unsigned stops_sent;
	bool stopped;
	uint64_t pairs_before;
};

static struct seg_budget *budget;
static struct seg_pool *pool;
static struct worker workers[WORKERS_MOST];
static unsigned worker_count;
static sem_t warm;
static stress_count refused, deferred_most;
static _Thread_local struct worker *self;

static struct {
	unsigned count;
	unsigned stopped;
	unsigned with_deferred;
	uint64_t pairs[WINDOWS_MOST];
} windows;

/* ------------------------------------------------------------- workers */

/* Only what a signal handler may do. */
static void stand_still(int signal)
{
	int saved = errno;
	char byte;

	(void)signal;
	if (rcu_inside())
		atomic_fetch_add_explicit(&self->stops_inside, 1,
					  memory_order_relaxed);
	atomic_fetch_add_explicit(&self->stops, 1, memory_order_relaxed);
	while (read(self->gate[0], &byte, 1) < 0 && errno == EINTR)
		;
	errno = saved;
}

static void take(struct worker *w, size_t bytes)
{
	uint64_t *segment = seg_alloc(pool, bytes);

	if (!segment) {
		stress_add(&refused, 1);
		return;
	}
	segment[0] = w->owner;
	segment[bytes / sizeof(*segment) - 1] = ~w->owner;
	w->held[w->count] = segment;
	w->bytes[w->count++] = bytes;
}

static void give(struct worker *w)
{
	const uint64_t *segment = w->held[--w->count];
	size_t last = w->bytes[w->count] / sizeof(*segment) - 1;
	int ret;

	stress_check(segment[0] == w->owner && segment[last] == ~w->owner,
		     "the contents of %p are not those of worker %" PRIu64,
		     w->held[w->count], w->owner);
	ret = seg_release(pool, w->held[w->count]);
	stress_check(!ret, "seg_release: %s", strerror(-ret));
	stress_add(&w->pairs, 1);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct stress_random random = stress_random_of(w->owner);

	self = w;
	take(w, SEG_MIN_BYTES);
	give(w);
	sem_post(&warm);
	while (!stress_over()) {
		unsigned up = 1 + stress_below(&random, HAND);

		while (w->count < up)
			take(w, (size_t)SEG_MIN_BYTES
					<< stress_below(&random, SEG_CLASSES));
		while (w->count)
			give(w);
	}
	return NULL;
}

/* ---------------------------------------------------------- controller */

static void stop(struct worker *w)
{
	int error = pthread_kill(w->thread, SIGRTMIN);

	stress_check(!error, "pthread_kill: %s", strerror(error));
	w->stopped = true;
	w->stops_sent++;
}

static void go_on(struct worker *w)
{
	stress_check(write(w->gate[1], "", 1) == 1, "cannot open the gate");
	w->stopped = false;
}

static void wait_until_stopped(struct worker *w)
{
	uint64_t until_ns = stress_now_ns() + HUNG_S * 1000 * ns_per_ms;

	while (atomic_load_explicit(&w->stops, memory_order_relaxed) !=
	       w->stops_sent) {
		stress_check(stress_now_ns() < until_ns, "a worker can't be "
			     "stopped: it gets no processor");
		stress_sleep_ns(ns_per_ms / 10);
	}
}

/* Some workers, each at an instant of its own. */
static void stop_some(struct stress_random *random)
{
	unsigned left = 1 + stress_below(random, worker_count - 2);

	while (left) {
		struct worker *w = &workers[stress_below(random, worker_count)];

		if (w->stopped)
			continue;
		stress_sleep_ns(stress_below(random, 300000));
		stop(w);
		windows.stopped++;
		left--;
	}
	for (unsigned i = 0; i < worker_count; i++)
		if (workers[i].stopped)
			wait_until_stopped(&workers[i]);
}

static void go_on_all(void)
{
	for (unsigned i = 0; i < worker_count; i++)
		if (workers[i].stopped)
			go_on(&workers[i]);
}

/* Pairs of the running workers since the window began. */
static uint64_t pairs_of_window(void)
{
	uint64_t pairs = 0;

	for (unsigned i = 0; i < worker_count; i++)
		if (!workers[i].stopped)
			pairs += stress_value(&workers[i].pairs) -
				 workers[i].pairs_before;
	return pairs;
}

static void note_deferred(void)
{
	uint64_t deferred = stress_stats(pool).deferred_bytes;

	stress_check_budget(budget);
	stress_raise(&deferred_most, deferred);
	windows.with_deferred += deferred > 0;
}

/*
 * Given no processor, nobody can be expected to get on: so a window without
 * progress lasts longer, but not for ever.
 */
static uint64_t watch_window(void)
{
	uint64_t start_ns = stress_now_ns();
	uint64_t pairs;

	for (unsigned i = 0; i < worker_count; i++)
		workers[i].pairs_before = stress_value(&workers[i].pairs);
	do {
		stress_sleep_ns(WINDOW_MS * ns_per_ms);
		pairs = pairs_of_window();
		stress_check(stress_now_ns() - start_ns <
				     HUNG_S * 1000 * ns_per_ms,
			     "no progress for %d s while others are stopped",
			     HUNG_S);
	} while (!pairs);
	note_deferred();
	return pairs;
}

static void control(void)
{
	uint64_t end_ns = stress_now_ns() + (uint64_t)(stress_seconds() * 1e9);
	struct stress_random random = stress_random_of(1000);

	while (stress_now_ns() < end_ns && windows.count < WINDOWS_MOST) {
		stop_some(&random);
		windows.pairs[windows.count++] = watch_window();
		go_on_all();
		stress_sleep_ns(stress_below(&random, 5000000));
	}
}

/* -------------------------------------------------------------- report */

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static void report(void)
{
	struct seg_pool_stats s = stress_stats(pool);
	unsigned inside = 0, n = windows.count;

	for (unsigned i = 0; i < worker_count; i++)
		inside += workers[i].stops_inside;
	qsort(windows.pairs, n, sizeof(*windows.pairs), compare);
	printf("  workers          %8u  windows %u of %d ms\n", worker_count,
	       n, WINDOW_MS);
	printf("  stops            %8u  in a read section %u\n",
	       windows.stopped, inside);
	printf("  pairs per window %8" PRIu64 " least, %" PRIu64 " median, %"
	       PRIu64 " most\n", windows.pairs[0], windows.pairs[n / 2],
	       windows.pairs[n - 1]);
	printf("  deferred         %8" PRIu64 " KiB at most, in %u windows\n",
	       stress_value(&deferred_most) / 1024, windows.with_deferred);
	printf("  regions mapped   %8" PRIu64 "  unmapped %" PRIu64
	       ", refused %" PRIu64 "\n", s.regions_mapped_total,
	       s.regions_unmapped_total, stress_value(&refused));
	stress_check(n > 0 && windows.pairs[0] > 0, "no progress in a window");
	stress_check(stress_value(&refused) == 0, "the budget had no room");
}

static void start_workers(void)
{
	struct sigaction action = { .sa_handler = stand_still,
				    .sa_flags = SA_RESTART };

	sigemptyset(&action.sa_mask);
	sigaction(SIGRTMIN, &action, NULL);
	sem_init(&warm, 0, 0);
	for (unsigned i = 0; i < worker_count; i++) {
		workers[i].owner = i + 1;
		stress_check(!pipe(workers[i].gate), "no pipe: %s",
			     strerror(errno));
		workers[i].thread = stress_start(work, &workers[i]);
	}
	for (unsigned i = 0; i < worker_count; i++)
		while (sem_wait(&warm))
			;
}

static void end_workers(void)
{
	stress_run_for(0);
	for (unsigned i = 0; i < worker_count; i++) {
		stress_join(workers[i].thread);
		stress_check(atomic_load(&workers[i].stops) ==
				     workers[i].stops_sent,
			     "worker %u was not stopped as often as told", i);
		close(workers[i].gate[0]);
		close(workers[i].gate[1]);
	}
	sem_destroy(&warm);
}

int main(void)
{
	stress_begin("stress/stopped");
	worker_count = stress_scale(WORKERS_MOST, 4);
	budget = stress_budget((uint64_t)1 << 30);
	pool = stress_pool((struct seg_pool_options){
		.budget = budget,
		.region_bytes = 256 << 10,
		.decay_ms = 4,
		.wait_ms = SEG_NO_WAIT,
	});
	start_workers();
	control();
	end_workers();
	report();
	stress_pool_end(pool);
	stress_budget_end(budget);
	return stress_end();
}
