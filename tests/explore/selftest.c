/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The explorer itself: textbook programs that are right, and their broken
 * twins.  A model that is too strong would not find the twins, one that is
 * too weak would break the programs.
 */
#include "explore.h"

#include <string.h>

#include "explore_rcu.h"
#include "os.h"

static struct atomic_u64 x, y;
static struct atomic_u32 word;
static struct atomic_ptr pointer;
static struct explore_cell data;
static uint64_t seen[EXPLORE_THREADS];

static void clear(void)
{
	u64_store_relaxed(&x, 0);
	u64_store_relaxed(&y, 0);
	u32_store_relaxed(&word, 0);
	ptr_store_relaxed(&pointer, NULL);
	memset(seen, 0, sizeof(seen));
}

/* Store buffering: only seq_cst on both sides lets one see the other. */
static void buffer_store(unsigned thread)
{
	u64_store_seq_cst(thread ? &y : &x, 1);
	seen[thread] = u64_load_seq_cst(thread ? &x : &y);
}

static void one_saw_it(void)
{
	explore_check(seen[0] || seen[1]);
}

static void buffer_acq_rel(unsigned thread)
{
	u64_store_release(thread ? &y : &x, 1);
	seen[thread] = u64_load_acquire(thread ? &x : &y);
}

static const struct explore_twin buffer_twins[] = {
	EXPLORE_TWIN("relaxed store", RELAX, "buffer_store", "store"),
	EXPLORE_TWIN("relaxed load", RELAX, "buffer_store", "load"),
	{ .name = NULL },
};

/* Message passing. */
static void pass_message(unsigned thread)
{
	if (thread == 0) {
		explore_write(&data, 42);
		u32_store_release(&word, 1);
	} else if (u32_load_acquire(&word)) {
		explore_check(explore_read(&data) == 42);
	}
}

static const struct explore_twin message_twins[] = {
	EXPLORE_TWIN("relaxed store", RELAX, "pass_message", "store"),
	EXPLORE_TWIN("relaxed load", RELAX, "pass_message", "load"),
	{ .name = NULL },
};

/* Message passing of what the library reads and writes plainly: plain.c. */
void __tsan_read8(void *address);
void __tsan_write8(void *address);

static void pass_plain(unsigned thread)
{
	static uint64_t plain;

	if (thread == 0) {
		__tsan_write8(&plain);
		u32_store_release(&word, 1);
	} else if (u32_load_acquire(&word)) {
		__tsan_read8(&plain);
	}
}

static const struct explore_twin plain_twins[] = {
	EXPLORE_TWIN("relaxed store", RELAX, "pass_plain", "store"),
	EXPLORE_TWIN("relaxed load", RELAX, "pass_plain", "load"),
	{ .name = NULL },
};

/* The same through a read-modify-write of a third: the release sequence. */
static void pass_on(unsigned thread)
{
	uint64_t old = 1;

	if (thread == 0) {
		explore_write(&data, 42);
		u64_store_release(&x, 1);
	} else if (thread == 1) {
		u64_cas_strong_relaxed(&x, &old, 2);
	} else if (u64_load_acquire(&x) == 2) {
		explore_check(explore_read(&data) == 42);
	}
}

/* A plain store ends it: x = 2 by another thread gives nothing to acquire. */
static void pass_by_store(unsigned thread)
{
	if (thread == 0) {
		explore_write(&data, 42);
		u64_store_release(&x, 1);
	} else if (thread == 1) {
		if (u64_load_relaxed(&x) == 1)
			u64_store_relaxed(&x, 2);
	} else if (u64_load_acquire(&x) == 2) {
		explore_read(&data);
	}
}

/* Coherence: one cell never goes back. */
static void read_twice(unsigned thread)
{
	if (thread == 0) {
		u64_store_relaxed(&x, 1);
		u64_store_relaxed(&x, 2);
	} else {
		uint64_t first = u64_load_relaxed(&x);

		explore_check(u64_load_relaxed(&x) >= first);
	}
}

/* membarrier(2): one side calls it, and the other needs no order. */
static void buffer_plain(unsigned thread)
{
	u64_store_relaxed(thread ? &y : &x, 1);
	if (thread == 1)
		os_membarrier();
	seen[thread] = u64_load_relaxed(thread ? &x : &y);
}

static const struct explore_twin barrier_twins[] = {
	EXPLORE_TWIN_SWITCH("no barrier", explore_throw_barrier),
	{ .name = NULL },
};

/* A barrier before the store that it should order. */
static void buffer_too_late(unsigned thread)
{
	if (thread == 1)
		os_membarrier();
	u64_store_relaxed(thread ? &y : &x, 1);
	seen[thread] = u64_load_relaxed(thread ? &x : &y);
}

/* ... and one by a third, which is no barrier between any two operations. */
static void buffer_beside(unsigned thread)
{
	if (thread == 2) {
		os_membarrier();
		return;
	}
	u64_store_relaxed(thread ? &y : &x, 1);
	seen[thread] = u64_load_relaxed(thread ? &x : &y);
}

/* It is the other thread's barrier, too: what was before is seen. */
static void pass_by_barrier(unsigned thread)
{
	if (thread == 0) {
		u64_store_relaxed(&x, 1);
		u64_store_relaxed(&y, 1);
	} else if (u64_load_relaxed(&y)) {
		os_membarrier();
		explore_check(u64_load_relaxed(&x));
	}
}

/* ... but plain data is not passed on. */
static void pass_plain_by_barrier(unsigned thread)
{
	if (thread == 0) {
		explore_write(&data, 42);
		u64_store_relaxed(&x, 1);
	} else if (u64_load_relaxed(&x)) {
		os_membarrier();
		explore_read(&data);
	}
}

/* A seq_cst load may be done before an acquire-less one that precedes it. */
static void pass_relaxed(unsigned thread)
{
	if (thread == 0) {
		u64_store_seq_cst(&x, 1);
		u64_store_seq_cst(&y, 1);
	} else if (u64_load_acquire(&y)) {
		explore_check(u64_load_seq_cst(&x));
	}
}

static const struct explore_twin passed_twins[] = {
	EXPLORE_TWIN("relaxed load", RELAX, "pass_relaxed", "load_acq"),
	{ .name = NULL },
};

/* Four threads: with acquire, two readers may disagree on the order. */
static void disagree(unsigned thread)
{
	struct atomic_u64 *first = thread == 2 ? &x : &y;
	struct atomic_u64 *second = thread == 2 ? &y : &x;

	if (thread < 2)
		u64_store_seq_cst(thread ? &y : &x, 1);
	else if (u64_load_seq_cst(first) == 1)
		seen[thread] = u64_load_seq_cst(second) == 0;
}

static void agreed(void)
{
	explore_check(!seen[2] || !seen[3]);
}

static const struct explore_twin disagree_twins[] = {
	EXPLORE_TWIN("relaxed loads", RELAX, "disagree", "load"),
	{ .name = NULL },
};

/* Counting. */
static void count(unsigned thread)
{
	uint64_t old = u64_load_relaxed(&x);

	(void)thread;
	while (!u64_cas_weak_relaxed(&x, &old, old + 1))
		;
	u64_add_relaxed(&y, 1);
}

static void counted(void)
{
	explore_check(u64_load_relaxed(&x) == 3);
	explore_check(u64_load_relaxed(&y) == 3);
}

static const struct explore_twin count_twins[] = {
	EXPLORE_TWIN("add in two steps", SPLIT, "count", "add"),
	EXPLORE_TWIN("add left out", SKIP, "count", "add"),
	EXPLORE_TWIN("blind exchange", BLIND, "count", "cas"),
	{ .name = NULL },
};

/* A weak exchange that is not in a loop may fail for nothing. */
static void weak_once(unsigned thread)
{
	uint64_t old = 0;

	(void)thread;
	explore_check(u64_cas_weak_relaxed(&x, &old, 1));
}

/* Sleep and wake. */
static void sleep_or_wake(unsigned thread)
{
	if (thread == 0) {
		u32_store_release(&word, 1);
		os_futex_wake_all(&word);
	} else {
		while (!u32_load_acquire(&word))
			os_futex_wait(&word, 0, OS_FOREVER);
	}
}

static void wake_only(unsigned thread)
{
	if (thread == 0)
		os_futex_wake_all(&word);
	else
		os_futex_wait(&word, 0, OS_FOREVER);
}

static const struct explore_twin sleep_twins[] = {
	EXPLORE_TWIN("lost wake-up", SKIP, "sleep_or_wake", "store"),
	{ .name = NULL },
};

/* RCU: unlink, wait, free. */
static void publish(void)
{
	clear();
	ptr_store_relaxed(&pointer, &data);
}

static void read_or_free(unsigned thread)
{
	struct explore_cell *cell;

	if (thread == 0) {
		ptr_store_relaxed(&pointer, NULL);
		rcu_wait_for_readers();
		explore_free(&data);
		return;
	}
	rcu_enter();
	cell = ptr_load_acquire(&pointer);
	if (cell)
		explore_read(cell);
	rcu_leave();
}

static void read_outside(unsigned thread)
{
	struct explore_cell *cell;

	if (thread == 0) {
		read_or_free(thread);
		return;
	}
	rcu_enter();
	cell = ptr_load_acquire(&pointer);
	rcu_leave();
	if (cell)
		explore_read(cell);
}

static const struct explore_twin rcu_twins[] = {
	EXPLORE_TWIN_SWITCH("no grace period", explore_throw_grace_period),
	EXPLORE_TWIN("not unlinked", SKIP, "read_or_free", "store"),
	{ .name = NULL },
};

/* Memory of os_calloc() is seen when it is used after it was freed. */
static void free_twice_used(unsigned thread)
{
	struct atomic_u64 *counter;

	if (thread == 0) {
		counter = os_calloc(1, sizeof(*counter));
		ptr_store_release(&pointer, counter);
		if (!ptr_exchange_acquire(&pointer, NULL))
			return;
		os_free(counter);
	} else {
		counter = ptr_load_acquire(&pointer);
		if (counter)
			u64_add_relaxed(counter, 1);
	}
}

const struct explore_scenario explore_selftest[] = {
	{ .name = "store buffering", .threads = 2, .setup = clear,
	  .body = buffer_store, .post = one_saw_it, .twins = buffer_twins },
	{ .name = "store buffering, release and acquire", .threads = 2,
	  .setup = clear, .body = buffer_acq_rel, .post = one_saw_it,
	  .must_fail = true },
	{ .name = "store buffering, a barrier by one side", .threads = 2,
	  .setup = clear, .body = buffer_plain, .post = one_saw_it,
	  .twins = barrier_twins },
	{ .name = "store buffering, the barrier too early", .threads = 2,
	  .setup = clear, .body = buffer_too_late, .post = one_saw_it,
	  .must_fail = true },
	{ .name = "store buffering, the barrier beside", .threads = 3,
	  .setup = clear, .body = buffer_beside, .post = one_saw_it,
	  .must_fail = true },
	{ .name = "barrier: what is before is seen", .threads = 2,
	  .setup = clear, .body = pass_by_barrier, .twins = barrier_twins },
	{ .name = "barrier: plain data is not passed on", .threads = 2,
	  .setup = clear, .body = pass_plain_by_barrier, .must_fail = true },
	{ .name = "message passing", .threads = 2, .setup = clear,
	  .body = pass_message, .twins = message_twins },
	{ .name = "message passing of plain data", .threads = 2,
	  .setup = clear, .body = pass_plain, .twins = plain_twins },
	{ .name = "release sequence", .threads = 3, .setup = clear,
	  .body = pass_on },
	{ .name = "release sequence broken by a store", .threads = 3,
	  .setup = clear, .body = pass_by_store, .must_fail = true },
	{ .name = "coherence", .threads = 2, .setup = clear,
	  .body = read_twice },
	{ .name = "seq_cst load after another", .threads = 2, .setup = clear,
	  .body = pass_relaxed, .twins = passed_twins },
	{ .name = "one order of seq_cst", .threads = 4, .setup = clear,
	  .body = disagree, .post = agreed, .twins = disagree_twins },
	{ .name = "counting", .threads = 3, .setup = clear, .body = count,
	  .post = counted, .twins = count_twins },
	{ .name = "weak exchange without a loop", .threads = 1,
	  .setup = clear, .body = weak_once, .must_fail = true },
	{ .name = "sleep and wake", .threads = 2, .setup = clear,
	  .body = sleep_or_wake, .twins = sleep_twins },
	{ .name = "wake without a store", .threads = 2, .setup = clear,
	  .body = wake_only, .must_fail = true },
	{ .name = "read, unlink, free", .threads = 3, .setup = publish,
	  .body = read_or_free, .twins = rcu_twins },
	{ .name = "read after the read section", .threads = 2,
	  .setup = publish, .body = read_outside, .must_fail = true },
	{ .name = "use after free", .threads = 2, .setup = clear,
	  .body = free_twice_used, .must_fail = true },
	{ .name = NULL },
};
