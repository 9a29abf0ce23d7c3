/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See page_relocate.h. */
#include "page_relocate.h"

#include <errno.h>
#include <string.h>

#include "rcu.h"

static int node_of_segment(struct seg_pool *p, const void *segment)
{
	struct region *r;
	uint32_t slice;
	int node = -1;

	rcu_enter();
	if (!pool_find(p, segment, &r, &slice))
		node = r->pool->node_id;
	rcu_leave();
	return node;
}

int page_node(const struct seg_page *page)
{
	unsigned largest = 0;

	for (unsigned i = 1; i < page->parts; i++)
		if (page->bytes[i] > page->bytes[largest])
			largest = i;
	return node_of_segment(page->pool, page_segment(page, largest));
}

static void *alloc_on(struct seg_pool *p, size_t bytes, int node)
{
	struct seg_alloc_options o = {
		.size = sizeof(o), .policy = SEG_POLICY_NODE, .node = node,
		.effort = SEG_EFFORT_EASY,
	};
	int saved = errno;
	void *segment = seg_alloc_with(p, bytes, &o);

	errno = saved;
	return segment;
}

/* Whether it is the page's still: who released it by mistake is found out when
 * the page goes, and not by touching what may be another's. */
static bool is_own(const struct seg_page *page, unsigned part)
{
	struct seg_handle handle = page_handle(page, part);
	void *segment;

	return !seg_resolve(page->pool, &handle, &segment);
}

/* False: no memory. */
static bool begin_part(struct relocation *m, unsigned part, int node)
{
	struct seg_page *page = m->page;
	void *segment;

	if (node_of_segment(page->pool, page_segment(page, part)) == node)
		return true;
	if (!is_own(page, part))
		return false;
	segment = alloc_on(page->pool, page->bytes[part], node);
	if (!segment)
		return false;
	m->handle[part] = page_handle_of(page->pool, segment);
	m->bytes += page->bytes[part];
	return true;
}

/* False: no memory. */
static bool get_carrier(struct relocation *m)
{
	int saved = errno;

	m->carrier = (struct seg_page *)slab_get(&m->page->pool->pages);
	errno = saved;
	if (m->carrier)
		m->carrier->pool = m->page->pool;
	return m->carrier != NULL;
}

bool relocation_begin(struct relocation *m, struct seg_page *page, int node,
		      bool defers)
{
	bool done;

	*m = (struct relocation){ .page = page };
	done = !defers || get_carrier(m);
	for (unsigned i = 0; i < page->parts && done; i++)
		done = begin_part(m, i, node);
	if (done && m->bytes)
		return true;
	relocation_end(m);
	return false;
}

void relocation_copy(struct relocation *m)
{
	struct seg_page *page = m->page;

	for (unsigned i = 0; i < page->parts; i++) {
		void *from = page_segment(page, i);
		void *to = m->handle[i].segment;

		m->from[i] = from;
		if (to)
			memcpy(to, from, page->bytes[i]);
		/* relaxed: who arrives is told by entry_join() */
		ptr_store_relaxed(&page->next[i], to ? to : from);
	}
}

void page_arrive(struct seg_page *page)
{
	for (unsigned i = 0; i < page->parts; i++)
		/* release -> page_segment(); relaxed <- relocation_copy(), as
		 * there.  All who come here write the same. */
		ptr_store_release(&page->part[i].segment,
				  ptr_load_relaxed(&page->next[i]));
}

void relocation_finish(struct relocation *m)
{
	struct seg_page *page = m->page;

	for (unsigned i = 0; i < page->parts; i++) {
		struct seg_handle old = page_handle(page, i);

		if (!m->handle[i].segment)
			continue;
		old.segment = m->from[i];
		page->part[i].region = m->handle[i].region;
		page->part[i].generation = m->handle[i].generation;
		m->handle[i] = old;
	}
}

static void give_carrier(struct seg_page *carrier)
{
	carrier->parts = 0;
	slab_put(&carrier->pool->pages, &carrier->item);
}

/* What stays has a handle of zeros, which releases nothing. */
void relocation_end(struct relocation *m)
{
	for (unsigned i = 0; i < SEG_PAGE_PARTS; i++)
		(void)seg_release_handle(m->page->pool, &m->handle[i]);
	if (m->carrier)
		give_carrier(m->carrier);
}

struct seg_page *relocation_defer(struct relocation *m)
{
	struct seg_page *carrier = m->carrier;

	for (unsigned i = 0; i < SEG_PAGE_PARTS; i++) {
		page_set_handle(carrier, i, &m->handle[i]);
		carrier->bytes[i] = m->handle[i].segment ? m->page->bytes[i] :
							   0;
	}
	carrier->parts = SEG_PAGE_PARTS;
	return carrier;
}

void relocation_carried(struct seg_page *carrier)
{
	page_release_parts(carrier);
	give_carrier(carrier);
}
