/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Planted faults against the RCU seam (lib/rcu.h) and the claims of
 * lib/poison.h: `rcu_fault N` does the N-th of them under ThreadSanitizer,
 * which must report it; `rcu_fault 0` does everything right and must be silent.
 * Without an argument the number of faults is printed.  See rcu_faults.sh.
 *
 * The two threads take turns by relaxed operations, which order nothing for
 * ThreadSanitizer: so each fault happens in each run, and what is or is not
 * reported is decided by the edges of the seam alone.
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "keeper.h"
#include "pool.h"
#include "rcu.h"

enum fault {
	RIGHT,
	NO_GRACE_PERIOD,	/* reclaimed while a reader is inside */
	PLAIN_WRITE,		/* a published object is written to */
	RELAXED_PUBLICATION,	/* the pointer is stored without release */
	NO_READ_SECTION,	/* the reader is seen by no grace period */
	USE_AFTER_LEAVE,	/* the pointer is kept beyond the section */
	USE_AFTER_RELEASE,	/* a segment is used by who released it */
	USE_WHILE_UNMAPPED,	/* a slice is used outside of a section */
	USE_WHILE_DISCARDED,	/* a slice is used that nobody holds */
	DEFERRED_FIRST,		/* unlinked after the grace period only */
	FAULTS
};

enum { SKIPPED = 77, ROUNDS = 20, BEGINNING_US = 5000 };

static enum fault fault;

static bool at_fault(enum fault f)
{
	return fault == f;
}

struct object {
	long payload;
};

static struct atomic_ptr published;
static struct atomic_u32 turn;	/* grows; odd: the reader's */
static struct seg_pool *pool;
static struct atomic_u64 sum;	/* so that reads are not left out */

/* No edge: relaxed on purpose. */
static void await(uint32_t number)
{
	while (u32_load_relaxed(&turn) < number)
		sched_yield();
}

static void pass_on(void)
{
	u32_add_relaxed(&turn, 1);
}

static void use(const long *payload)
{
	u64_add_relaxed(&sum, (uint64_t)*payload);
}

/* One read, over before the turn is passed on. */
static void read_object(void)
{
	const struct object *o;

	if (!at_fault(NO_READ_SECTION))
		rcu_enter();
	o = ptr_load_acquire(&published);
	if (!at_fault(USE_AFTER_LEAVE))
		use(&o->payload);
	if (at_fault(NO_GRACE_PERIOD))
		pass_on();	/* and stays inside, see end_reading() */
	else if (!at_fault(NO_READ_SECTION))
		rcu_leave();
	if (at_fault(USE_AFTER_LEAVE))
		use(&o->payload);
}

static void end_reading(uint32_t me)
{
	if (at_fault(NO_GRACE_PERIOD)) {
		await(me + 1);
		rcu_leave();
	} else {
		pass_on();
	}
}

static void *reader(void *arg)
{
	(void)arg;
	for (uint32_t round = 0; round < ROUNDS; round++) {
		await(2 * round + 1);
		read_object();
		end_reading(2 * round + 1);
	}
	return NULL;
}

static struct object *publish(long payload)
{
	struct object *o = malloc(sizeof(*o));

	o->payload = payload;
	if (at_fault(RELAXED_PUBLICATION))
		ptr_store_relaxed(&published, o);
	else
		ptr_store_release(&published, o);
	return o;
}

static void reclaim(struct object *o)
{
	ptr_store_relaxed(&published, NULL);
	if (!at_fault(NO_GRACE_PERIOD))
		rcu_wait_for_readers();
	o->payload = -1;
	free(o);
}

static void objects(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, reader, NULL);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		struct object *o = publish(round);

		pass_on();
		await(2 * round + 2);
		if (at_fault(PLAIN_WRITE))
			o->payload = 7;
		reclaim(o);
	}
	pthread_join(thread, NULL);
}

/* Uses a segment that it was given; whoever gave it releases it meanwhile. */
static void *borrower(void *arg)
{
	long *segment = ptr_load_acquire(&published);

	(void)arg;
	use(segment);
	pass_on();
	return NULL;
}

static void borrowed_segment(void)
{
	long *segment = seg_alloc(pool, SEG_MIN_BYTES);
	pthread_t thread;

	u32_store_relaxed(&turn, 0);
	*segment = 1;
	ptr_store_release(&published, segment);
	pthread_create(&thread, NULL, borrower, NULL);
	await(1);
	if (!at_fault(USE_AFTER_RELEASE))
		pthread_join(thread, NULL);
	seg_release(pool, segment);
	if (at_fault(USE_AFTER_RELEASE))
		pthread_join(thread, NULL);
}

/* Looks into a region that it holds no segment of. */
static void *onlooker(void *arg)
{
	struct region *r;
	const long *slice;

	(void)arg;
	rcu_enter();
	r = region_table_find(&pool->allocator.table,
			      ptr_load_acquire(&published), NULL);
	slice = region_slice(r, 0);
	if (!at_fault(USE_WHILE_UNMAPPED))
		use(slice);
	rcu_leave();
	if (at_fault(USE_WHILE_UNMAPPED))
		use(slice);
	pass_on();
	await(2);	/* liburcu's lock at a thread's end is an edge, too */
	return NULL;
}

static void watched_region(void)
{
	void *segment = seg_alloc(pool, SEG_MIN_BYTES);
	pthread_t thread;

	u32_store_relaxed(&turn, 0);
	seg_release(pool, segment);
	ptr_store_release(&published, segment);
	pthread_create(&thread, NULL, onlooker, NULL);
	await(1);
	seg_pool_trim(pool, NULL);
	pass_on();
	pthread_join(thread, NULL);
}

/* Uses a slice beside the one that keeps their region. */
static void *neighbour(void *arg)
{
	const long *slices = ptr_load_acquire(&published);

	(void)arg;
	use(at_fault(USE_WHILE_DISCARDED) ?
		    slices + SEG_MIN_BYTES / sizeof(*slices) : slices);
	pass_on();
	await(2);	/* see onlooker() */
	return NULL;
}

static void discarded_slice(void)
{
	long *segment = seg_alloc(pool, SEG_MIN_BYTES);
	void *beside = seg_alloc(pool, SEG_MIN_BYTES);
	pthread_t thread;

	u32_store_relaxed(&turn, 0);
	*segment = 1;
	seg_release(pool, beside);
	ptr_store_release(&published, segment);
	pthread_create(&thread, NULL, neighbour, NULL);
	await(1);
	seg_pool_drain(pool, 0, NULL);
	pass_on();
	pthread_join(thread, NULL);
	seg_release(pool, segment);
	seg_pool_trim(pool, NULL);
}

static void segments(void)
{
	struct seg_budget_options budget_options = {
		.size = sizeof(budget_options), .limit_bytes = 1 << 20 };
	struct seg_pool_options options = { .size = sizeof(options),
					    .decay_ms = UINT32_MAX };

	if (seg_budget_create(&budget_options, &options.budget) ||
	    seg_pool_create(&options, &pool))
		exit(2);
	for (int round = 0; round < ROUNDS; round++) {
		borrowed_segment();
		watched_region();
		discarded_slice();
	}
	if (seg_pool_destroy(pool) || seg_budget_destroy(options.budget))
		exit(2);
}

/* Keeps the grace period open until the visitor has come and gone. */
static void *stayer(void *arg)
{
	(void)arg;
	rcu_enter();
	pass_on();
	await(3);
	rcu_leave();
	await(4);
	return NULL;
}

/* Enters when the grace period has begun, and leaves before its end. */
static void *visitor(void *arg)
{
	const struct object *o;

	(void)arg;
	await(2);
	usleep(BEGINNING_US);
	rcu_enter();
	o = ptr_load_acquire(&published);
	if (o)
		use(&o->payload);
	rcu_leave();
	pass_on();
	await(4);	/* see onlooker() */
	return NULL;
}

static void visited_grace_period(void)
{
	pthread_t threads[2];
	struct object *o;

	u32_store_relaxed(&turn, 0);
	o = publish(1);
	pthread_create(&threads[0], NULL, stayer, NULL);
	pthread_create(&threads[1], NULL, visitor, NULL);
	await(1);
	if (!at_fault(DEFERRED_FIRST))
		ptr_store_relaxed(&published, NULL);
	pass_on();
	rcu_wait_for_readers();
	ptr_store_relaxed(&published, NULL);
	o->payload = -1;
	free(o);
	pass_on();
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
}

static void grace_periods(void)
{
	for (int round = 0; round < ROUNDS; round++)
		visited_grace_period();
}

/* Says how many faults there are, or that they can't be seen. */
static int introduce(void)
{
#ifdef SEG_TSAN
	printf("%d\n", FAULTS - 1);
	return 0;
#else
	puts("not built with ThreadSanitizer");
	return SKIPPED;
#endif
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return introduce();
	fault = (enum fault)atoi(argv[1]);
	if (fault == RIGHT || fault < USE_AFTER_RELEASE)
		objects();
	if (fault == RIGHT ||
	    (fault >= USE_AFTER_RELEASE && fault < DEFERRED_FIRST))
		segments();
	if (fault == RIGHT || fault >= DEFERRED_FIRST)
		grace_periods();
	printf("fault %d is done\n", (int)fault);
	return 0;
}
