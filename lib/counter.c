/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * See counter.h.  The numbers of threads: a bitmap of those that are owned.  A
 * thread takes the lowest free one at its first count, and gives it back when
 * it ends; the next owner goes on with its counters (release -> acquire).
 */
#include "counter.h"

#include <pthread.h>

static const char nobody;

_Thread_local struct counter_thread counter_thread = {
	.begun = { .depth = 1 },
	.reader = &nobody,
};

static struct atomic_u64 owned;
static struct atomic_u32 most;		/* numbers that ever were, from 0 */
static struct atomic_u32 sharers;	/* threads that got no number */
static pthread_key_t key;

/* The thread ends; should it count again, it takes another number. */
static void give_back(void *number)
{
	uint64_t bit = (uint64_t)1 << ((uintptr_t)number - 1);

	counter_thread.number = 0;
	counter_thread.begun.place = 0;
	counter_thread.now = (struct counter_section){ 0 };
	/* seq_cst: release -> take_number() */
	u64_and_seq_cst(&owned, ~bit);
}

static void make_key(void)
{
	(void)pthread_key_create(&key, give_back);
}

static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Destructors mostly run in the order of their keys: so the application's find
 * a thread that is in no section, whatever it ended in. */
static __attribute__((constructor)) void make_key_first(void)
{
	pthread_once(&once, make_key);
}

/* COUNTER_OWNERS: all are taken. */
static unsigned take_number(void)
{
	uint64_t old = u64_load_relaxed(&owned); /* relaxed: compared */
	unsigned number;

	do {
		number = ~old ? (unsigned)__builtin_ctzll(~old) : 64;
		if (number >= COUNTER_OWNERS)
			return COUNTER_OWNERS;
		/* acquire <- give_back(); retries when another took one */
	} while (!u64_cas_weak_acquire(&owned, &old,
				       old | (uint64_t)1 << number));
	return number;
}

static void raise_most(unsigned count)
{
	/* acquire <- who raised it this far: in the one order that comes before
	 * what this thread counts */
	uint32_t old = u32_load_acquire(&most);

	/* seq_cst: with counter_slots(); retries when another raised it */
	while (old < count && !u32_cas_weak_seq_cst(&most, &old, count))
		;
}

unsigned counter_number_thread(void)
{
	unsigned number = take_number();

	pthread_once(&once, make_key);
	if (number < COUNTER_OWNERS &&
	    pthread_setspecific(key, (void *)(uintptr_t)(number + 1))) {
		give_back((void *)(uintptr_t)(number + 1));
		number = COUNTER_OWNERS;
	}
	if (number == COUNTER_OWNERS)
		/* relaxed: only spreads them */
		number += u32_add_relaxed(&sharers, 1) % COUNTER_SHARED;
	raise_most(number + 1);
	counter_thread.number = number + 1;
	if (number < COUNTER_OWNERS)
		counter_thread.begun.place = counter_place_of(number);
	return number + 1;
}

unsigned counter_slots(void)
{
	/* seq_cst: who is not in it yet counts after this; see raise_most() */
	return u32_load_seq_cst(&most);
}
