/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See page.h. */
#include "page.h"

#include <errno.h>
#include <string.h>

#include "assert.h"

_Static_assert(sizeof(struct seg_page) <= PAGE_OBJECT_BYTES,
	       "a page fits its slab");

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
static void release_parts(struct seg_page *page)
{
	for (unsigned i = 0; i < page->parts; i++)
		(void)seg_release_handle(page->pool, &page->part[i].handle);
	page->parts = 0;
}

static bool alloc_part(struct seg_page *page, unsigned part, size_t bytes)
{
	void *segment = seg_alloc(page->pool, bytes);

	if (!segment)
		return false;
	/* Should another thread have released it by mistake already, then the
	 * page has a handle of nobody's, and takes nothing from anybody. */
	if (seg_handle_of(page->pool, segment, &page->part[part].handle))
		page->part[part].handle = (struct seg_handle){
			.segment = segment };
	page->part[part].bytes = (size_t)SEG_MIN_BYTES << class_of(bytes);
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
		release_parts(page);
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
	return page && part < page->parts ? page->part[part].handle.segment :
					    NULL;
}

size_t seg_page_part_bytes(const struct seg_page *page, unsigned part)
{
	return page && part < page->parts ? page->part[part].bytes : 0;
}

size_t seg_page_bytes(const struct seg_page *page)
{
	size_t bytes = 0;

	for (unsigned i = 0; page && i < page->parts; i++)
		bytes += page->part[i].bytes;
	return bytes;
}

/* The part moves to a larger segment; false: no memory, and it stayed. */
static bool move_part(struct seg_page *page, unsigned part, size_t bytes)
{
	struct seg_handle old = page->part[part].handle;
	size_t old_bytes = page->part[part].bytes;
	int saved = errno;
	bool moved = alloc_part(page, part, bytes);

	errno = saved;
	if (!moved)
		return false;
	memcpy(page->part[part].handle.segment, old.segment, old_bytes);
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
	if (bytes <= page->part[part].bytes)
		return 0;
	return move_part(page, part, bytes) ? 0 : -ENOMEM;
}

bool page_release(struct seg_page *page, enum page_owner owner)
{
	struct seg_pool *p = page->pool;

	if (!page_move(page, owner, PAGE_NOBODY))
		return false;
	release_parts(page);
	slab_put(&p->pages, &page->item);
	return true;
}

int seg_page_release(struct seg_page *page)
{
	if (!page || page_release(page, PAGE_CALLER))
		return 0;
	return page_misuse(page);
}
