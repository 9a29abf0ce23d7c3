/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See pages.h.  The source is included for its copying, which is done here. */
#include <string.h>

#define memcpy copy_contents
static void *copy_contents(void *to, const void *from, size_t bytes);
#include "page_relocate.c"
#undef memcpy

#include "pages.h"
#include "topology.h"

enum { SEGMENTS = 24, NODES = 3 };

struct segment {
	struct explore_cell there;
	struct atomic_u64 number;
	int node;
	bool out;
};

struct seg_pool *pages_pool;
unsigned pages_left;

static struct seg_pool pool;
static struct segment segments[SEGMENTS];
static unsigned used;
static struct region regions[NODES];
static struct class_pool classes[NODES];

/* ---- machine ---- */

unsigned topology_here(void)
{
	return explore_thread() % NODES;
}

bool topology_near(unsigned index, unsigned k, unsigned *ret_near)
{
	*ret_near = index;
	return k == 0;
}

/* ---- pool ---- */

static struct segment *segment_of(const void *segment)
{
	return (struct segment *)(uintptr_t)segment;
}

static void *alloc(int node)
{
	struct segment *s;

	explore_pause();
	if (!pages_left)
		return NULL;
	pages_left--;
	explore_check(used < SEGMENTS);
	s = &segments[used++];
	s->node = node;
	s->out = true;
	explore_write(&s->there, 1);
	return s;
}

void *seg_alloc(struct seg_pool *p, size_t bytes)
{
	(void)p, (void)bytes;
	return alloc((int)explore_thread());
}

void *seg_alloc_with(struct seg_pool *p, size_t bytes,
		     const struct seg_alloc_options *options)
{
	(void)p, (void)bytes;
	return alloc(options->node);
}

int seg_handle_of(struct seg_pool *p, const void *segment,
		  struct seg_handle *ret_handle)
{
	(void)p;
	*ret_handle = (struct seg_handle){
		.segment = segment_of(segment),
		.region = 1,
		.generation = (uint64_t)(segment_of(segment) - segments),
	};
	return 0;
}

int seg_resolve(struct seg_pool *p, const struct seg_handle *handle,
		void **ret_segment)
{
	(void)p;
	*ret_segment = handle->segment;
	return 0;
}

/* Each once, by its own handle, while nobody looks at it. */
int seg_release_handle(struct seg_pool *p, const struct seg_handle *handle)
{
	struct segment *s = segment_of(handle->segment);

	(void)p;
	if (!s)
		return -EINVAL;
	explore_check(s->out);
	explore_check(handle->generation == (uint64_t)(s - segments));
	explore_free(&s->there);
	s->out = false;
	return 0;
}

enum seg_misuse pool_find(struct seg_pool *p, const void *segment,
			  struct region **ret_region, uint32_t *ret_slice)
{
	(void)p;
	*ret_region = &regions[segment_of(segment)->node];
	*ret_slice = 0;
	return 0;
}

/* ---- pages ---- */

static void *copy_contents(void *to, const void *from, size_t bytes)
{
	struct segment *s = segment_of(to), *source = segment_of(from);

	(void)bytes;
	explore_read(&source->there);
	explore_write(&s->there, 1);
	u64_store_relaxed(&s->number, u64_load_relaxed(&source->number));
	return to;
}

void pages_open(void)
{
	memset(segments, 0, sizeof(segments));
	memset(&pool.pages, 0, sizeof(pool.pages));
	pool.pages.object_bytes = sizeof(struct seg_page);
	pool.pages.base_bits = 8;
	pages_pool = &pool;
	pages_left = SEGMENTS;
	used = 0;
	for (int i = 0; i < NODES; i++) {
		classes[i].node_id = i;
		regions[i].pool = &classes[i];
		u32_store_relaxed(&topology.id[i], (uint32_t)i);
	}
	u32_store_relaxed(&topology.count, NODES);
}

struct seg_page *pages_make(int node, uint64_t number)
{
	const size_t bytes[PAGE_PARTS] = { SEG_MIN_BYTES, SEG_MIN_BYTES };
	struct seg_page *page;

	explore_check(!seg_page_create(&pool, bytes, PAGE_PARTS, &page));
	for (unsigned i = 0; i < PAGE_PARTS; i++)
		segment_of(seg_page_part(page, i))->node = node;
	pages_write(page, number);
	return page;
}

uint64_t pages_read(const struct seg_page *page)
{
	uint64_t number[PAGE_PARTS];

	for (unsigned i = 0; i < PAGE_PARTS; i++) {
		struct segment *s = segment_of(seg_page_part(page, i));

		explore_read(&s->there);
		number[i] = u64_load_relaxed(&s->number);
		explore_pause();
		explore_read(&s->there);
	}
	explore_check(number[0] == number[1]);
	return number[0];
}

void pages_write(struct seg_page *page, uint64_t number)
{
	for (unsigned i = 0; i < PAGE_PARTS; i++) {
		struct segment *s = segment_of(seg_page_part(page, i));

		explore_read(&s->there);
		u64_store_relaxed(&s->number, number);
	}
}

void pages_close(void)
{
	for (unsigned i = 0; i < used; i++)
		explore_check(!segments[i].out);
}
