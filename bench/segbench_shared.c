/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The other naive peers: per class one list that all threads share, under a
 * mutex or as Concurrency Kit's stack.  Links stand beside the segments.
 * And where these peers have their memory from: one mapping per class, which
 * is cut from the front.
 */
#define _GNU_SOURCE
#include <ck_stack.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "segbench_work.h"

static const size_t carve_bytes = (size_t)8 << 30;

static struct {
	_Alignas(64) char *base;
	atomic_size_t taken;	/* bytes */
} mapped[SEG_CLASSES];

static void *map_reserved(size_t bytes)
{
	void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (base == MAP_FAILED)
		die("mmap");
	return base;
}

static void map_all(void)
{
	for (int c = 0; c < SEG_CLASSES; c++)
		mapped[c].base = map_reserved(carve_bytes);
}

void *carve(int class_index)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	size_t bytes = class_bytes(class_index), at;

	pthread_once(&once, map_all);
	at = atomic_fetch_add(&mapped[class_index].taken, bytes);
	if (at + bytes > carve_bytes)
		return NULL;
	return mapped[class_index].base + at;
}

size_t carved_index(int class_index, const void *segment)
{
	return (size_t)((const char *)segment - mapped[class_index].base) /
	       class_bytes(class_index);
}

/* ------------------------------------------------------------------- mutex */

static struct {
	_Alignas(64) pthread_mutex_t lock;
	size_t count;
	void **segment;
} lists[SEG_CLASSES] = {
	[0 ... SEG_CLASSES - 1] = { .lock = PTHREAD_MUTEX_INITIALIZER }
};

void *mutex_get(size_t bytes)
{
	int c = class_of(bytes);
	void *segment = NULL;

	pthread_mutex_lock(&lists[c].lock);
	if (lists[c].count)
		segment = lists[c].segment[--lists[c].count];
	pthread_mutex_unlock(&lists[c].lock);
	return segment ? segment : carve(c);
}

void mutex_put(void *segment, size_t bytes)
{
	int c = class_of(bytes);

	pthread_mutex_lock(&lists[c].lock);
	if (!lists[c].segment)
		lists[c].segment = map_reserved(carve_bytes / class_bytes(c) *
						sizeof(void *));
	lists[c].segment[lists[c].count++] = segment;
	pthread_mutex_unlock(&lists[c].lock);
}

/* ----------------------------------------------------------------- ckstack */

/* An entry for each segment, at the segment's number. */
static struct {
	_Alignas(64) ck_stack_t stack;
	_Alignas(64) ck_stack_entry_t *entry;
} stacks[SEG_CLASSES];
static pthread_once_t entries_once = PTHREAD_ONCE_INIT;

static void map_entries(void)
{
	for (int c = 0; c < SEG_CLASSES; c++)
		stacks[c].entry = map_reserved(carve_bytes / class_bytes(c) *
					       sizeof(ck_stack_entry_t));
}

void *ckstack_get(size_t bytes)
{
	int c = class_of(bytes);
	ck_stack_entry_t *entry = ck_stack_pop_mpmc(&stacks[c].stack);

	if (!entry)
		return carve(c);
	return mapped[c].base +
	       (size_t)(entry - stacks[c].entry) * class_bytes(c);
}

void ckstack_put(void *segment, size_t bytes)
{
	int c = class_of(bytes);

	pthread_once(&entries_once, map_entries);
	ck_stack_push_mpmc(&stacks[c].stack,
			   &stacks[c].entry[carved_index(c, segment)]);
}
