/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What one writes in an afternoon: per thread and class two magazines of 64
 * pointers, and a depot under a mutex behind them.  No limit, wrong releases
 * are not noticed, memory is never given back.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "segbench_work.h"

enum { ROUNDS = 64 };

struct magazine {
	struct magazine *next;
	unsigned count;
	void *round[ROUNDS];
};

static struct depot {
	_Alignas(64) pthread_mutex_t lock;
	struct magazine *full, *empty;
} depots[SEG_CLASSES];

static __thread struct mine {
	struct magazine *loaded, *previous;
} mine[SEG_CLASSES];
static pthread_key_t at_exit;

static struct magazine *pop(struct magazine **list)
{
	struct magazine *m = *list;

	if (m)
		*list = m->next;
	return m;
}

static void push(struct magazine **list, struct magazine *m)
{
	m->next = *list;
	*list = m;
}

static struct magazine *make_magazine(void)
{
	struct magazine *m = calloc(1, sizeof(*m));

	if (!m)
		die("calloc");
	return m;
}

/* The first use of a class by a thread. */
static void begin(struct mine *my)
{
	my->loaded = make_magazine();
	my->previous = make_magazine();
	pthread_setspecific(at_exit, mine);
}

static void end_thread(void *arg)
{
	struct mine *my = arg;

	for (int c = 0; c < SEG_CLASSES; c++) {
		struct depot *depot = &depots[c];

		if (!my[c].loaded)
			continue;
		pthread_mutex_lock(&depot->lock);
		push(my[c].loaded->count ? &depot->full : &depot->empty,
		     my[c].loaded);
		push(my[c].previous->count ? &depot->full : &depot->empty,
		     my[c].previous);
		pthread_mutex_unlock(&depot->lock);
		my[c] = (struct mine){ NULL, NULL };
	}
}

void magazine_start(void)
{
	for (int c = 0; c < SEG_CLASSES; c++)
		pthread_mutex_init(&depots[c].lock, NULL);
	errno = pthread_key_create(&at_exit, end_thread);
	if (errno)
		die("pthread_key_create");
}

static void exchange(struct mine *my)
{
	struct magazine *m = my->loaded;

	my->loaded = my->previous;
	my->previous = m;
}

/* The loaded one is empty, or there is none. */
static __attribute__((noinline)) void *get_slowly(int c)
{
	struct mine *my = &mine[c];
	struct magazine *full;

	if (!my->loaded)
		begin(my);
	if (!my->previous->count) {
		pthread_mutex_lock(&depots[c].lock);
		full = pop(&depots[c].full);
		if (full) {
			push(&depots[c].empty, my->previous);
			my->previous = full;
		}
		pthread_mutex_unlock(&depots[c].lock);
		if (!full)
			return carve(c);
	}
	exchange(my);
	return my->loaded->round[--my->loaded->count];
}

void *magazine_get(size_t bytes)
{
	int c = class_of(bytes);
	struct magazine *m = mine[c].loaded;

	if (__builtin_expect(m && m->count, 1))
		return m->round[--m->count];
	return get_slowly(c);
}

/* The loaded one is full, or there is none. */
static __attribute__((noinline)) void put_slowly(int c, void *segment)
{
	struct mine *my = &mine[c];
	struct magazine *empty;

	if (!my->loaded)
		begin(my);
	if (my->previous->count == ROUNDS) {
		pthread_mutex_lock(&depots[c].lock);
		empty = pop(&depots[c].empty);
		push(&depots[c].full, my->previous);
		pthread_mutex_unlock(&depots[c].lock);
		my->previous = empty ? empty : make_magazine();
	}
	if (my->loaded->count == ROUNDS)
		exchange(my);
	my->loaded->round[my->loaded->count++] = segment;
}

void magazine_put(void *segment, size_t bytes)
{
	int c = class_of(bytes);
	struct magazine *m = mine[c].loaded;

	if (__builtin_expect(m && m->count < ROUNDS, 1))
		m->round[m->count++] = segment;
	else
		put_slowly(c, segment);
}
