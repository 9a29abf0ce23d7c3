/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See page.h. */
#include "page.h"

#include <errno.h>
#include <string.h>

#include "assert.h"

#ifndef SEG_EXPLORE
_Static_assert(sizeof(struct seg_page) <= PAGE_OBJECT_BYTES,
	       "a page fits its slab");
#endif

bool page_move(struct seg_page *page, enum page_owner from, enum page_owner to)
{
	uint32_t old = from;

	/* acq_rel: the last owner's writes to the page <-> the next owner's */
	return u32_cas_strong_acq_rel(&page->owner, &old, to);
}

int page_misuse(struct seg_page *page)
{
	/* relaxed: only for the report */
	uint32_t owner = u32_load_relaxed(&page->owner);

	return pool_misuse(page->pool, owner >= PAGE_LOG ? SEG_MISUSE_OWNER :
							   SEG_MISUSE_DOUBLE,
			   page);
}

/* An error here is of a part that the caller released itself: reported. */
void page_release_parts(struct seg_page *page)
{
	for (unsigned i = 0; i < page->parts; i++) {
		struct seg_handle handle = page_handle(page, i);

		(void)seg_release_handle(page->pool, &handle);
	}
	page->parts = 0;
}

struct seg_handle page_handle_of(struct seg_pool *p, void *segment)
{
	struct seg_handle handle;

	if (seg_handle_of(p, segment, &handle))
		handle = (struct seg_handle){ .segment = segment };
	return handle;
}

void page_set_handle(struct seg_page *page, unsigned part,
		     const struct seg_handle *handle)
{
	/* relaxed: others see the page when it is given to them */
	ptr_store_relaxed(&page->part[part].segment, handle->segment);
	page->part[part].region = handle->region;
	page->part[part].generation = handle->generation;
}

static bool alloc_part(struct seg_page *page, unsigned part, size_t bytes)
{
	void *segment = seg_alloc(page->pool, bytes);
	struct seg_handle handle;

	if (!segment)
		return false;
	handle = page_handle_of(page->pool, segment);
	page_set_handle(page, part, &handle);
	page->bytes[part] = (uint32_t)SEG_MIN_BYTES << class_of(bytes);
	u64_store_relaxed(&page->reads, 0); /* relaxed: advice */
	return true;
}

static int alloc_parts(struct seg_page *page, const size_t *part_bytes,
		       unsigned parts)
{
	for (unsigned i = 0; i < parts; i++) {
		if (!alloc_part(page, i, part_bytes[i]))
			return -ENOMEM;
		page->parts = i + 1;
	}
	return 0;
}

static bool sizes_are_valid(const size_t *part_bytes, unsigned parts)
{
	for (unsigned i = 0; i < parts; i++)
		if (part_bytes[i] == 0 || part_bytes[i] > SEG_MAX_BYTES)
			return false;
	return true;
}

int seg_page_create(struct seg_pool *p, const size_t *part_bytes,
		    unsigned parts, struct seg_page **ret_page)
{
	int saved = errno;
	struct seg_page *page;
	int ret;

	if (!p || !part_bytes || !ret_page || parts == 0 ||
	    parts > SEG_PAGE_PARTS || !sizes_are_valid(part_bytes, parts))
		return -EINVAL;
	page = (struct seg_page *)slab_get(&p->pages);
	errno = saved;
	if (!page)
		return -ENOMEM;
	page->pool = p;
	page->parts = 0;
	ret = alloc_parts(page, part_bytes, parts);
	errno = saved;
	if (ret) {
		page_release_parts(page);
		slab_put(&p->pages, &page->item);
		return ret;
	}
	if (!page_move(page, PAGE_NOBODY, PAGE_CALLER))
		seg_die("page handed out twice: memory corrupted");
	*ret_page = page;
	return 0;
}

unsigned seg_page_parts(const struct seg_page *page)
{
	return page ? page->parts : 0;
}

void *seg_page_part(const struct seg_page *page, unsigned part)
{
	return page && part < page->parts ? page_segment(page, part) : NULL;
}

size_t seg_page_part_bytes(const struct seg_page *page, unsigned part)
{
	return page && part < page->parts ? page->bytes[part] : 0;
}

size_t seg_page_bytes(const struct seg_page *page)
{
	size_t bytes = 0;

	for (unsigned i = 0; page && i < page->parts; i++)
		bytes += page->bytes[i];
	return bytes;
}

/* The part moves to a larger segment; false: no memory, and it stayed. */
static bool move_part(struct seg_page *page, unsigned part, size_t bytes)
{
	struct seg_handle old = page_handle(page, part);
	size_t old_bytes = page->bytes[part];
	int saved = errno;
	bool moved = alloc_part(page, part, bytes);

	errno = saved;
	if (!moved)
		return false;
	memcpy(page_segment(page, part), old.segment, old_bytes);
	(void)seg_release_handle(page->pool, &old);
	return true;
}

int seg_page_grow(struct seg_page *page, unsigned part, size_t bytes)
{
	uint32_t owner;

	if (!page)
		return -EINVAL;
	/* relaxed: the owner's own; a stale pointer may read anything else */
	owner = u32_load_relaxed(&page->owner);
	if (owner == PAGE_NOBODY || owner == PAGE_CACHE)
		return page_misuse(page);
	if (part >= page->parts || bytes > SEG_MAX_BYTES)
		return -EINVAL;
	if (bytes <= page->bytes[part])
		return 0;
	return move_part(page, part, bytes) ? 0 : -ENOMEM;
}

bool page_release(struct seg_page *page, enum page_owner owner)
{
	struct seg_pool *p = page->pool;

	if (!page_move(page, owner, PAGE_NOBODY))
		return false;
	page_release_parts(page);
	slab_put(&p->pages, &page->item);
	return true;
}

int seg_page_release(struct seg_page *page)
{
	if (!page || page_release(page, PAGE_CALLER))
		return 0;
	return page_misuse(page);
}
