/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Fragments: a page into bytes of the store, and back. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "ingest_leaf.h"
#include "ingest_store.h"

#define MAGIC UINT32_C(0x6c656166)

/* Seven bits a byte, the low ones first, the top bit: more follow. */
static char *put_number(char *at, uint64_t number)
{
	for (; number > 0x7f; number >>= 7)
		*at++ = (char)(0x80 | (number & 0x7f));
	*at++ = (char)number;
	return at;
}

/* NULL: the number does not end in time. */
static const char *get_number(const char *at, const char *end, uint64_t *ret)
{
	unsigned shift;

	*ret = 0;
	for (shift = 0; at && at < end && shift < 64; shift += 7) {
		*ret |= (uint64_t)(*at & 0x7f) << shift;
		if (!(*at++ & 0x80))
			return at;
	}
	return NULL;
}

/* A distance either way as a number that is small if it is short. */
static uint64_t fold(uint64_t distance)
{
	return (distance << 1) ^ (distance >> 63 ? UINT64_MAX : 0);
}

static uint64_t unfold(uint64_t number)
{
	return (number >> 1) ^ (number & 1 ? UINT64_MAX : 0);
}

/* The next start as seen from the last end, mostly 0, and the length. */
static char *put_ids(char *at, const struct leaf_head *leaf)
{
	uint64_t end = 0;
	uint32_t i;

	for (i = 0; i < leaf->records; i++) {
		const struct leaf_id *id = &leaf->ids[i];

		at = put_number(at, fold(id->start - end));
		at = put_number(at, id->bytes);
		end = id->start + id->bytes;
	}
	return at;
}

static uint64_t fragment_sum(const struct fragment_head *head,
			     const char *rest)
{
	struct fragment_head copy = *head;

	copy.sum = 0;
	return sum_bytes(sum_bytes(MAGIC, &copy, sizeof(copy)), rest,
			 (size_t)copy.id_bytes + copy.slot_bytes);
}

size_t fragment_encode(struct mem *mem, uint64_t key, uint32_t number,
		       const struct mem_page *complete,
		       const struct mem_page *modified, char *buffer)
{
	const struct leaf_head *leaf = leaf_head(mem, modified);
	char *ids = buffer + sizeof(struct fragment_head);
	char *slots = put_ids(ids, leaf);
	struct fragment_head head = {
		.magic = MAGIC,
		.number = number,
		.key = key,
		.records = leaf->records,
		.id_bytes = (uint32_t)(slots - ids),
		.slot_bytes = leaf->used,
		.page_records = leaf_head(mem, complete)->records,
		.page_sum = leaf_sum(mem, complete),
	};

	memcpy(slots, leaf_slots(mem, modified), leaf->used);
	head.sum = fragment_sum(&head, ids);
	memcpy(buffer, &head, sizeof(head));
	return sizeof(head) + head.id_bytes + head.slot_bytes;
}

static int read_all(int fd, char *buffer, size_t bytes, uint64_t from)
{
	while (bytes) {
		ssize_t n = pread(fd, buffer, bytes, (off_t)from);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EBADMSG;
		buffer += n;
		bytes -= (size_t)n;
		from += (uint64_t)n;
	}
	return 0;
}

static bool fragment_is_good(const char *data, uint32_t bytes, uint64_t key,
			     uint32_t number)
{
	struct fragment_head head;

	if (bytes < sizeof(head))
		return false;
	memcpy(&head, data, sizeof(head));
	return head.magic == MAGIC && head.key == key &&
	       head.number == number &&
	       sizeof(head) + (uint64_t)head.id_bytes + head.slot_bytes ==
		       bytes &&
	       head.sum == fragment_sum(&head, data + sizeof(head));
}

/* Adds the fragment's records to the page. */
static int add_records(struct mem *mem, struct mem_page *page,
		       const char *data)
{
	struct fragment_head head;
	const char *id, *slots;
	struct span record = { 0 };
	uint64_t step = 0, length = 0;
	int rc = 0;

	memcpy(&head, data, sizeof(head));
	id = data + sizeof(head);
	slots = id + head.id_bytes;
	record.data = slots;
	for (; head.records && rc == 0; head.records--) {
		id = get_number(id, slots, &step);
		id = get_number(id, slots, &length);
		record.data += record.bytes;
		if (!id || length > head.slot_bytes)
			return -EBADMSG;
		head.slot_bytes -= (uint32_t)length;
		record.start += record.bytes + unfold(step);
		record.bytes = length;
		rc = leaf_append(mem, page, &record);
	}
	return rc == 0 && head.slot_bytes ? -EBADMSG : rc;
}

/* The newest fragment says what all of them together are. */
static bool page_is_whole(struct mem *mem, const struct mem_page *page,
			  const char *newest)
{
	struct fragment_head head;

	memcpy(&head, newest, sizeof(head));
	return leaf_head(mem, page)->records == head.page_records &&
	       leaf_sum(mem, page) == head.page_sum;
}

static const char *data_of(struct mem *mem, const struct mem_page *fragment)
{
	return mem->ops->page_part(fragment, 0);
}

int fragments_combine(struct mem *mem, struct mem_page *const *fragments,
		      uint32_t count, unsigned records,
		      struct mem_page **ret_page)
{
	struct mem_page *page;
	uint32_t i;
	int rc = count ? leaf_create(mem, records, &page) : -EBADMSG;

	if (rc)
		return rc;
	for (i = 0; i < count && rc == 0; i++)
		rc = add_records(mem, page, data_of(mem, fragments[i]));
	if (rc == 0 &&
	    !page_is_whole(mem, page, data_of(mem, fragments[count - 1])))
		rc = -EBADMSG;
	leaf_head(mem, page)->fragments = count;
	if (rc == 0)
		*ret_page = page;
	else
		mem->ops->page_release(page);
	return rc == -ENOSPC ? -EBADMSG : rc;
}

static int fill_fragment(struct store *store, char *data, uint64_t key,
			 const struct page_entry *entry, uint32_t number)
{
	uint32_t bytes = entry->bytes[number];
	int rc = read_all(store->fd, data, bytes, entry->at[number]);

	if (rc == 0 && !fragment_is_good(data, bytes, key, number))
		rc = -EBADMSG;
	return rc;
}

int fragment_read(struct store *store, struct mem *mem, uint64_t key,
		  const struct page_entry *entry, uint32_t number,
		  struct mem_page **ret_fragment)
{
	size_t bytes = entry->bytes[number];
	struct mem_page *fragment;
	int rc = mem_page_create(mem, &bytes, 1, &fragment);

	if (rc)
		return rc;
	rc = fill_fragment(store, mem->ops->page_part(fragment, 0), key, entry,
			   number);
	if (rc == 0)
		*ret_fragment = fragment;
	else
		mem->ops->page_release(fragment);
	return rc;
}
