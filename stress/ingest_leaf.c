/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ingest_leaf.h"

#include <errno.h>
#include <string.h>

#include "ingest_store.h"

#define GROW_ONE_IN 1024	/* records */

static size_t any_class(uint64_t dice)
{
	return (size_t)SEG_MIN_BYTES << dice % SEG_CLASSES;
}

int leaf_create(struct mem *mem, unsigned records, struct mem_page **ret_page)
{
	size_t bytes[MEM_PARTS] = {
		LEAF_SLOTS,
		sizeof(struct leaf_head) + records * sizeof(struct leaf_id),
	};
	uint64_t dice;
	int rc;

	if (mem->all_classes) {
		dice = mem_dice(mem);
		bytes[0] = any_class(dice);
		bytes[1] = any_class(dice >> 32);
	}
	rc = mem_page_create(mem, bytes, MEM_PARTS, ret_page);
	/* a segment's contents are undefined */
	if (rc == 0)
		*leaf_head(mem, *ret_page) = (struct leaf_head){ 0 };
	return rc;
}

struct leaf_head *leaf_head(struct mem *mem, const struct mem_page *page)
{
	return mem->ops->page_part(page, 1);
}

const char *leaf_slots(struct mem *mem, const struct mem_page *page)
{
	return mem->ops->page_part(page, 0);
}

/* Sometimes a part grows that has no need to. */
static int leaf_grow_any(struct mem *mem, struct mem_page *page)
{
	uint64_t dice = mem_dice(mem);
	unsigned part = dice % MEM_PARTS;

	dice /= MEM_PARTS;
	if (dice % GROW_ONE_IN)
		return 0;
	return mem_page_grow(mem, page, part, any_class(dice >> 32));
}

/* Makes room for one more record. */
static int leaf_room(struct mem *mem, struct mem_page *page, size_t bytes)
{
	struct leaf_head *head = leaf_head(mem, page);
	size_t slots = head->used + bytes;
	size_t ids = sizeof(*head) +
		     (head->records + 1) * sizeof(struct leaf_id);
	int rc = 0;

	if (fragment_bound(head->records + 1, slots) > SEG_MAX_BYTES)
		return -ENOSPC;
	if (mem->all_classes)
		rc = leaf_grow_any(mem, page);
	if (rc == 0 && slots > mem->ops->page_part_bytes(page, 0))
		rc = mem_page_grow(mem, page, 0, slots);
	if (rc == 0 && ids > mem->ops->page_part_bytes(page, 1))
		rc = mem_page_grow(mem, page, 1, ids);
	return rc;
}

int leaf_append(struct mem *mem, struct mem_page *page,
		const struct span *record)
{
	struct leaf_head *head;
	int rc = leaf_room(mem, page, record->bytes);

	if (rc)
		return rc;
	head = leaf_head(mem, page);
	memcpy((char *)mem->ops->page_part(page, 0) + head->used, record->data,
	       record->bytes);
	head->ids[head->records++] = (struct leaf_id){
		.start = record->start,
		.at = head->used,
		.bytes = (uint32_t)record->bytes,
	};
	head->used += (uint32_t)record->bytes;
	return 0;
}

void leaf_drop_last(struct mem *mem, struct mem_page *page)
{
	struct leaf_head *head = leaf_head(mem, page);

	head->used -= head->ids[--head->records].bytes;
}

uint64_t sum_bytes(uint64_t sum, const void *data, size_t bytes)
{
	const char *at = data;
	uint64_t word;

	for (; bytes >= sizeof(word); bytes -= sizeof(word)) {
		memcpy(&word, at, sizeof(word));
		sum = (sum ^ word) * UINT64_C(0x9fb21c651e98df25);
		sum ^= sum >> 29;
		at += sizeof(word);
	}
	word = bytes;
	memcpy(&word, at, bytes);
	return input_mix(sum ^ word ^ ((uint64_t)bytes << 56));
}

uint64_t leaf_sum(struct mem *mem, const struct mem_page *page)
{
	const struct leaf_head *head = leaf_head(mem, page);
	uint64_t sum = sum_bytes(head->records, leaf_slots(mem, page),
				 head->used);

	return sum_bytes(sum, head->ids, head->records * sizeof(*head->ids));
}
