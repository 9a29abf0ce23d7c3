/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Lock freedom: threads are stopped at arbitrary instructions, for long, by a
 * signal whose handler blocks, and the others must go on.  In each window up
 * to all but two workers stand still; what the running ones do meanwhile is
 * counted, and none at all is a failure.
 *
 * A second game has a cache in it.  Some workers, the editors, put, replace,
 * load, take and remove; stopped while they hold the cache's lock, they hold up
 * other editors, which is documented, but nobody's hits, pins, unpins,
 * allocations and releases: all other workers do these.  In windows where
 * editors run and none gets on, a stopped one held the lock.
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

#include "cache.h"
#include "rcu.h"
#include "stress.h"

enum {
	WORKERS_MOST = 6,
	HAND = 8,
	WINDOWS_MOST = 100000,
	WINDOW_MS = 100,
	HUNG_S = 60,		/* a window without progress is given so long */
	EDITORS = 2,
	KEYS = 48,
	CACHED = 24,		/* values that the cache may hold */
	PINS = 3,
};

static const uint64_t ns_per_ms = 1000000;

struct worker {
	/* written by the worker, read by the controller */
	_Alignas(64) stress_count pairs;
	stress_count hits;
	stress_count edits;
	_Atomic unsigned stops;		/* times that the handler was entered */
	_Atomic unsigned stops_inside;	/* of these, in a read section */
	/* the worker's */
	uint64_t owner;
	unsigned count;
	void *held[HAND];
	size_t bytes[HAND];
	struct seg_pin pin[PINS];
	/* the controller's */
	pthread_t thread;
	int gate[2];			/* a byte lets the worker go on */
	unsigned stops_sent;
	bool stopped;
	bool edits_only;
	uint64_t pairs_before, hits_before, edits_before;
};

static struct seg_budget *budget;
static struct seg_pool *pool;
static struct seg_cache *cache;		/* NULL in the first game */
static struct worker workers[WORKERS_MOST];
static unsigned worker_count;
static sem_t warm;
static stress_count refused, deferred_most;
static _Thread_local struct worker *self;

static struct {
	unsigned count;
	unsigned stopped;
	unsigned with_deferred;
	unsigned lock_held;	/* by one that was stopped */
	uint64_t pairs[WINDOWS_MOST];
	uint64_t hits[WINDOWS_MOST];
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

static void allocate(struct worker *w, struct stress_random *random)
{
	unsigned up = 1 + stress_below(random, HAND);

	while (w->count < up)
		take(w, (size_t)SEG_MIN_BYTES
				<< stress_below(random, SEG_CLASSES));
	while (w->count)
		give(w);
}

static void unpin(struct seg_pin *pin)
{
	uint64_t *value = seg_pin_value(pin);
	int ret;

	stress_check(!value || value[1] == ~value[0],
		     "a pinned value is torn");
	ret = seg_unpin(pin);
	stress_check(!ret, "seg_unpin: %s", strerror(-ret));
}

/* Pins one more, and unpins the one before it in that place. */
static void hit(struct worker *w, struct stress_random *random)
{
	struct seg_pin *pin = &w->pin[stress_below(random, PINS)];
	uint64_t key = stress_below(random, KEYS);
	uint64_t *value;

	unpin(pin);
	if (seg_cache_get(cache, key, pin))
		return;
	value = seg_pin_value(pin);
	stress_check(value[0] == key, "key %" PRIu64 ": the value of %" PRIu64,
		     key, value[0]);
	if (!stress_below(random, 8))
		stress_check(!seg_pin_tag(pin, w->owner), "seg_pin_tag");
	stress_add(&w->hits, 1);
}

static uint64_t *value_make(uint64_t key)
{
	uint64_t *value = seg_alloc(pool, SEG_MIN_BYTES);

	stress_check(value, "seg_alloc: %s", strerror(errno));
	value[0] = key;
	value[1] = ~key;
	return value;
}

static void value_end(uint64_t key, uint64_t *value)
{
	int ret;

	stress_check(value[0] == key && value[1] == ~key,
		     "the value of key %" PRIu64 " is torn", key);
	value[1] = 0;
	ret = seg_release(pool, value);
	stress_check(!ret, "seg_release: %s", strerror(-ret));
}

static void on_leave(void *ctx, uint64_t key, void *value, uint64_t weight,
		     enum seg_cause cause)
{
	(void)ctx;
	(void)weight;
	(void)cause;
	value_end(key, value);
}

static int load(void *ctx, uint64_t key, void **ret_value,
		uint64_t *ret_weight)
{
	(void)ctx;
	*ret_value = value_make(key);
	*ret_weight = 1;
	return 0;
}

static void put(uint64_t key, bool replaces)
{
	uint64_t *value = value_make(key);
	int ret = replaces ? seg_cache_replace(cache, key, value, 1, NULL) :
			     seg_cache_put(cache, key, value, 1, NULL);

	stress_check(!ret || (!replaces && ret == -EEXIST), "put: %s",
		     strerror(-ret));
	if (ret)
		value_end(key, value);
}

static void edit(struct worker *w, struct stress_random *random)
{
	uint64_t key = stress_below(random, KEYS);
	struct seg_pin pin;
	void *value;

	switch (stress_below(random, 8)) {
	case 0:
		if (!seg_cache_take(cache, key, &value))
			value_end(key, value);
		break;
	case 1:
		seg_cache_remove(cache, key, NULL);
		break;
	case 2:
	case 3:
		if (!seg_cache_get_or_load(cache, key, load, NULL, 0, &pin))
			unpin(&pin);
		break;
	default:
		put(key, stress_below(random, 2));
	}
	stress_add(&w->edits, 1);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct stress_random random = stress_random_of(w->owner);

	self = w;
	take(w, SEG_MIN_BYTES);
	give(w);
	if (cache)
		hit(w, &random);
	sem_post(&warm);
	while (!stress_over()) {
		if (w->edits_only)
			edit(w, &random);
		else
			allocate(w, &random);
		for (int i = 0; cache && !w->edits_only && i < 16; i++)
			hit(w, &random);
	}
	for (int i = 0; i < PINS; i++)
		unpin(&w->pin[i]);
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

static bool is_stopped(struct worker *w)
{
	return atomic_load_explicit(&w->stops, memory_order_relaxed) ==
	       w->stops_sent;
}

/*
 * An editor that waits for the lock stands still anyway; ThreadSanitizer calls
 * the handler only when that is over.
 */
static void wait_until_stopped(struct worker *w)
{
	uint64_t start_ns = stress_now_ns();
	uint64_t until_ns = start_ns + HUNG_S * 1000 * ns_per_ms;

	while (!is_stopped(w)) {
		if (w->edits_only &&
		    stress_now_ns() > start_ns + WINDOW_MS * ns_per_ms)
			return;
		stress_check(stress_now_ns() < until_ns, "a worker can't be "
			     "stopped: it gets no processor");
		stress_sleep_ns(ns_per_ms / 10);
	}
}

/* One of those that must get on has to run. */
static bool may_stop(struct worker *w)
{
	unsigned running = 0;

	for (unsigned i = 0; i < worker_count; i++)
		running += !workers[i].stopped && !workers[i].edits_only;
	return !w->stopped && is_stopped(w) && (w->edits_only || running > 1);
}

/* Some workers, each at an instant of its own. */
static void stop_some(struct stress_random *random)
{
	unsigned left = 1 + stress_below(random, worker_count - 2);

	while (left) {
		struct worker *w = &workers[stress_below(random, worker_count)];

		if (!may_stop(w))
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

/* What the running workers did since the window began. */
struct progress {
	uint64_t pairs, hits, edits;
	unsigned editors;
};

static struct progress progress_of_window(void)
{
	struct progress p = { 0 };

	for (unsigned i = 0; i < worker_count; i++) {
		struct worker *w = &workers[i];

		if (w->stopped)
			continue;
		p.pairs += stress_value(&w->pairs) - w->pairs_before;
		p.hits += stress_value(&w->hits) - w->hits_before;
		p.edits += stress_value(&w->edits) - w->edits_before;
		p.editors += w->edits_only;
	}
	return p;
}

static void begin_window(void)
{
	for (unsigned i = 0; i < worker_count; i++) {
		struct worker *w = &workers[i];

		w->pairs_before = stress_value(&w->pairs);
		w->hits_before = stress_value(&w->hits);
		w->edits_before = stress_value(&w->edits);
	}
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
static struct progress watch_window(void)
{
	uint64_t start_ns = stress_now_ns();
	struct progress p;

	begin_window();
	do {
		stress_sleep_ns(WINDOW_MS * ns_per_ms);
		p = progress_of_window();
		stress_check(stress_now_ns() - start_ns <
				     HUNG_S * 1000 * ns_per_ms,
			     "no progress for %d s while others are stopped: %"
			     PRIu64 " pairs, %" PRIu64 " hits", HUNG_S, p.pairs,
			     p.hits);
	} while (!p.pairs || (cache && !p.hits));
	note_deferred();
	return p;
}

static void note_window(const struct progress *p)
{
	windows.pairs[windows.count] = p->pairs;
	windows.hits[windows.count++] = p->hits;
	/* relaxed: it is held, or it is not */
	windows.lock_held += p->editors && !p->edits &&
			     (u32_load_relaxed(&cache->gate.word) & GATE_HELD);
}

static void control(void)
{
	uint64_t end_ns = stress_now_ns() +
			  (uint64_t)(stress_seconds() / 2 * 1e9);
	struct stress_random random = stress_random_of(1000);

	while (stress_now_ns() < end_ns && windows.count < WINDOWS_MOST) {
		struct progress p;

		stop_some(&random);
		p = watch_window();
		note_window(&p);
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

static void print_per_window(const char *what, uint64_t *list)
{
	unsigned n = windows.count;

	qsort(list, n, sizeof(*list), compare);
	printf("  %s per window %8" PRIu64 " least, %" PRIu64 " median, %"
	       PRIu64 " most\n", what, list[0], list[n / 2], list[n - 1]);
	stress_check(list[0] > 0, "no progress in a window");
}

static void report(void)
{
	struct seg_pool_stats s = stress_stats(pool);
	unsigned inside = 0;

	stress_check(windows.count > 0, "no window");
	for (unsigned i = 0; i < worker_count; i++)
		inside += workers[i].stops_inside;
	printf("%s\n  workers          %8u  windows %u of %d ms\n",
	       cache ? "with a cache" : "pools", worker_count, windows.count,
	       WINDOW_MS);
	printf("  stops            %8u  in a read section %u\n",
	       windows.stopped, inside);
	print_per_window("pairs", windows.pairs);
	if (cache) {
		print_per_window("hits ", windows.hits);
		printf("  lock held        %8u  windows, by a stopped one\n",
		       windows.lock_held);
	}
	printf("  deferred         %8" PRIu64 " KiB at most, in %u windows\n",
	       stress_value(&deferred_most) / 1024, windows.with_deferred);
	printf("  regions mapped   %8" PRIu64 "  unmapped %" PRIu64
	       ", refused %" PRIu64 "\n", s.regions_mapped_total,
	       s.regions_unmapped_total, stress_value(&refused));
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
		workers[i].edits_only = cache && i < EDITORS;
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

static void make_cache(void)
{
	struct seg_cache_options o = {
		.size = sizeof(o),
		.max_weight = CACHED,
		.budget = budget,
		.listener = on_leave,
	};
	int ret = seg_cache_create(&o, &cache);

	stress_check(!ret, "seg_cache_create: %s", strerror(-ret));
	for (uint64_t key = 0; key < KEYS; key++)
		put(key, true);
}

static void end_cache(void)
{
	int ret;

	stress_check(seg_cache_is_valid(cache), "the cache is not valid");
	ret = seg_cache_destroy(cache);
	stress_check(!ret, "seg_cache_destroy: %s", strerror(-ret));
	cache = NULL;
}

static void play(bool with_cache)
{
	memset(workers, 0, sizeof(workers));
	memset(&windows, 0, sizeof(windows));
	atomic_store(&deferred_most, 0);
	stress_again();
	budget = stress_budget((uint64_t)1 << 30);
	pool = stress_pool((struct seg_pool_options){
		.budget = budget,
		.region_bytes = 256 << 10,
		.decay_ms = 4,
		.wait_ms = SEG_NO_WAIT,
	});
	if (with_cache)
		make_cache();
	start_workers();
	control();
	end_workers();
	report();
	if (cache)
		end_cache();
	stress_pool_end(pool);
	stress_budget_end(budget);
}

int main(void)
{
	stress_begin("stress/stopped");
	worker_count = stress_scale(WORKERS_MOST, 4);
	play(false);
	play(true);
	return stress_end();
}
