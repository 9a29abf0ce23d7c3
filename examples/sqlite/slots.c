/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See slots.h. */
#include "slots.h"

struct slot {
	struct slot *next;
};

struct slot_segment {
	struct slots *slots;
	struct slot_segment *next, *before;	/* of those with a free slot */
	struct slot *free;
	unsigned used;
};

enum { SLOTS_ALIGN = 16 };

static size_t round_up(size_t bytes)
{
	return (bytes + SLOTS_ALIGN - 1) & ~(size_t)(SLOTS_ALIGN - 1);
}

static unsigned slots_of_segment(const struct slots *s)
{
	return (unsigned)((SLOTS_SEGMENT_BYTES -
			   round_up(sizeof(struct slot_segment))) / s->bytes);
}

bool slots_init(struct slots *s, struct seg_pool *pool, size_t bytes)
{
	s->pool = pool;
	s->bytes = round_up(bytes);
	s->partial = NULL;
	return slots_of_segment(s) && !pthread_mutex_init(&s->lock, NULL);
}

void slots_end(struct slots *s)
{
	pthread_mutex_destroy(&s->lock);
}

static void link_segment(struct slots *s, struct slot_segment *g)
{
	g->before = NULL;
	g->next = s->partial;
	if (g->next)
		g->next->before = g;
	s->partial = g;
}

static void unlink_segment(struct slots *s, struct slot_segment *g)
{
	if (g->next)
		g->next->before = g->before;
	if (g->before)
		g->before->next = g->next;
	else
		s->partial = g->next;
}

static void *take_of(struct slots *s, struct slot_segment *g)
{
	struct slot *slot = g->free;

	g->free = slot->next;
	g->used++;
	if (!g->free)
		unlink_segment(s, g);
	return slot;
}

/* Outside the lock: the allocation may evict, and so give slots back. */
static struct slot_segment *new_segment(struct slots *s,
					const struct seg_alloc_options *how)
{
	struct slot_segment *g;
	char *at;

	g = seg_alloc_with(s->pool, SLOTS_SEGMENT_BYTES, how);
	if (!g)
		return NULL;
	*g = (struct slot_segment){ .slots = s };
	at = (char *)g + round_up(sizeof(*g)) +
	     slots_of_segment(s) * s->bytes;
	for (unsigned n = slots_of_segment(s); n; n--) {
		struct slot *slot = (struct slot *)(at -= s->bytes);

		slot->next = g->free;
		g->free = slot;
	}
	return g;
}

void *slots_take(struct slots *s, const struct seg_alloc_options *how)
{
	struct slot_segment *fresh = NULL;
	void *slot = NULL;

	pthread_mutex_lock(&s->lock);
	if (!s->partial) {
		pthread_mutex_unlock(&s->lock);
		fresh = new_segment(s, how);
		pthread_mutex_lock(&s->lock);
	}
	if (fresh)
		link_segment(s, fresh);
	if (s->partial)
		slot = take_of(s, s->partial);
	pthread_mutex_unlock(&s->lock);
	return slot;
}

void slots_give(void *memory)
{
	struct slot_segment *g = (struct slot_segment *)
		((uintptr_t)memory & ~(uintptr_t)(SLOTS_SEGMENT_BYTES - 1));
	struct slot *slot = memory;
	struct slots *s = g->slots;
	bool empty;

	pthread_mutex_lock(&s->lock);
	if (!g->free)
		link_segment(s, g);
	slot->next = g->free;
	g->free = slot;
	empty = --g->used == 0;
	if (empty)
		unlink_segment(s, g);
	pthread_mutex_unlock(&s->lock);
	if (empty)
		seg_release(s->pool, g);
}
