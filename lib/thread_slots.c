/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * See thread_slots.h.  The lock covers the list of tables, and who has which
 * slot; an entry is written by its thread, and by who drops the slot, under it.
 * What a user does when a thread ends is done without the lock, since it may
 * take a while; who drops the slot waits for it.
 */
#include "thread_slots.h"

#include <pthread.h>

#include "os.h"

struct table {
	struct atomic_ptr slot[THREAD_SLOTS + 1];
	struct table *next, **link;	/* what points to this one */
};

static struct atomic_ptr none[THREAD_SLOTS + 1];
_Thread_local struct atomic_ptr *thread_slots = none;

static struct {
	pthread_mutex_t lock;
	struct table *tables;
	uint64_t used;			/* slots */
	void (*end[THREAD_SLOTS])(void *);
	struct atomic_u32 ending[THREAD_SLOTS];	/* threads */
} all = { .lock = PTHREAD_MUTEX_INITIALIZER };

static pthread_key_t key;
static bool has_key;

/* ---- a thread ends ---- */

static void end_slot(struct table *t, unsigned slot)
{
	void *pointer;

	/* relaxed: the thread's own, or NULL from who drops it */
	if (!ptr_load_relaxed(&t->slot[slot]))
		return;
	pthread_mutex_lock(&all.lock);
	/* relaxed, both: under the lock */
	pointer = ptr_load_relaxed(&t->slot[slot]);
	ptr_store_relaxed(&t->slot[slot], NULL);
	if (pointer)
		/* relaxed: under the lock */
		u32_add_relaxed(&all.ending[slot], 1);
	pthread_mutex_unlock(&all.lock);
	if (!pointer)
		return;
	all.end[slot](pointer);
	/* seq_cst: release -> thread_slot_drop() */
	u32_sub_seq_cst(&all.ending[slot], 1);
	os_futex_wake_all(&all.ending[slot]);
}

static void add_table(struct table *t)
{
	pthread_mutex_lock(&all.lock);
	t->next = all.tables;
	t->link = &all.tables;
	if (t->next)
		t->next->link = &t->next;
	all.tables = t;
	pthread_mutex_unlock(&all.lock);
}

static void remove_table(struct table *t)
{
	pthread_mutex_lock(&all.lock);
	*t->link = t->next;
	if (t->next)
		t->next->link = t->link;
	pthread_mutex_unlock(&all.lock);
}

/* Should the thread use a pool again, it gets another table. */
static void thread_ends(void *table)
{
	struct table *t = table;

	thread_slots = none;
	for (unsigned slot = 0; slot < THREAD_SLOTS; slot++)
		end_slot(t, slot);
	remove_table(t);
	os_free(t);
}

/* ---- slots ---- */

static void make_key(void)
{
	has_key = !pthread_key_create(&key, thread_ends);
}

unsigned thread_slot_claim(void (*end)(void *))
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	unsigned slot = THREAD_SLOTS;

	pthread_once(&once, make_key);
	pthread_mutex_lock(&all.lock);
	if (has_key && ~all.used) {
		slot = (unsigned)__builtin_ctzll(~all.used);
		all.used |= (uint64_t)1 << slot;
		all.end[slot] = end;
	}
	pthread_mutex_unlock(&all.lock);
	return slot;
}

void thread_slot_drop(unsigned slot)
{
	uint32_t ending;

	if (slot == THREAD_SLOTS)
		return;
	pthread_mutex_lock(&all.lock);
	for (struct table *t = all.tables; t; t = t->next)
		/* relaxed: nobody uses it */
		ptr_store_relaxed(&t->slot[slot], NULL);
	pthread_mutex_unlock(&all.lock);
	/* acquire <- end_slot() */
	while ((ending = u32_load_acquire(&all.ending[slot])) != 0)
		os_futex_wait(&all.ending[slot], ending, OS_FOREVER);
	pthread_mutex_lock(&all.lock);
	all.used &= ~((uint64_t)1 << slot);
	pthread_mutex_unlock(&all.lock);
}

static struct table *make_table(void)
{
	struct table *t = os_calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	if (pthread_setspecific(key, t)) {
		os_free(t);
		return NULL;
	}
	add_table(t);
	thread_slots = t->slot;
	return t;
}

bool thread_slot_set(unsigned slot, void *pointer)
{
	if (slot == THREAD_SLOTS || (thread_slots == none && !make_table()))
		return false;
	ptr_store_relaxed(&thread_slots[slot], pointer); /* relaxed: our own */
	return true;
}

/* ---- fork ---- */

void thread_slots_before_fork(void)
{
	pthread_mutex_lock(&all.lock);
}

void thread_slots_after_fork(void)
{
	pthread_mutex_unlock(&all.lock);
}

/* Under the lock.  Their tables stay, unused. */
void thread_slots_forked(void)
{
	for (unsigned slot = 0; slot < THREAD_SLOTS; slot++)
		/* relaxed: nobody else is there */
		u32_store_relaxed(&all.ending[slot], 0);
}
