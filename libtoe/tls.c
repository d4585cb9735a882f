// SPDX-License-Identifier: BSD-3-Clause
/*
 * What a program gets out of TLS (OpenSSL).
 *
 * In: calls of SSL_read() and SSL_write(), and of their _ex, in the program's own file, and in
 * libwebsockets, which reads for brokers; out: the plaintext goes to follow.c, what is read before
 * the program gets it.
 *
 * Not by a name that we export, as with libc's functions: a plugin that loads OpenSSL for itself
 * would find ours, and we not its.  So the relocations of these symbols in these files are done
 * once more, and point to us.  Calls of other libraries stay what they are.
 *
 * State: the real functions; written once, before the first connection is accepted.
 */
#include <dlfcn.h>
#include <elf.h>
#include <limits.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "libtoe/lt.h"

#define LIBWEBSOCKETS "libwebsockets.so"

static struct {
	int (*read)(void *ssl, void *buf, int len);
	int (*read_ex)(void *ssl, void *buf, size_t len, size_t *n);
	int (*write)(void *ssl, const void *buf, int len);
	int (*write_ex)(void *ssl, const void *buf, size_t len, size_t *n);
	int (*get_fd)(const void *ssl);
} real;

static int tls_read(void *ssl, void *buf, int len)
{
	int n = real.read(ssl, buf, len);

	return n > 0 ? (int)lt_follow_tls(real.get_fd(ssl), buf, n) : n;
}

static int tls_read_ex(void *ssl, void *buf, size_t len, size_t *n)
{
	int ok = real.read_ex(ssl, buf, len, n);

	return ok == 1 && lt_follow_tls(real.get_fd(ssl), buf, (ssize_t)*n) < 0 ? 0 : ok;
}

static int tls_write(void *ssl, const void *buf, int len)
{
	int n;

	errno = 0;
	n = real.write(ssl, buf, len);
	if (len > 0)
		lt_follow_wrote(real.get_fd(ssl), buf, (size_t)len, n > 0 ? n : -1, true);
	return n;
}

static int tls_write_ex(void *ssl, const void *buf, size_t len, size_t *n)
{
	int ok;

	errno = 0;
	ok = real.write_ex(ssl, buf, len, n);
	lt_follow_wrote(real.get_fd(ssl), buf, len, ok == 1 ? (ssize_t)*n : -1, true);
	return ok;
}

/* ---- relocations ---- */

struct image {
	ElfW(Addr) base;
	ElfW(Addr) data; /* may be written, but for relro once the program runs */
	ElfW(Addr) data_end;
	ElfW(Addr) relro; /* whole pages */
	ElfW(Addr) relro_end;
	const ElfW(Sym) * sym;
	const char *str;
	const ElfW(Rela) * rela[2]; /* data, calls */
	size_t rela_bytes[2];
};

/* The dynamic linker has made some of these addresses and left others offsets. */
static ElfW(Addr) address(const struct image *m, ElfW(Addr) a)
{
	return a < m->base ? m->base + a : a;
}

static void read_dynamic(struct image *m, const ElfW(Dyn) * d)
{
	bool with_addend = false;

	for (; d->d_tag != DT_NULL; d++) {
		switch (d->d_tag) {
		case DT_SYMTAB:
			m->sym = (const void *)address(m, d->d_un.d_ptr);
			break;
		case DT_STRTAB:
			m->str = (const void *)address(m, d->d_un.d_ptr);
			break;
		case DT_RELA:
			m->rela[0] = (const void *)address(m, d->d_un.d_ptr);
			break;
		case DT_RELASZ:
			m->rela_bytes[0] = d->d_un.d_val;
			break;
		case DT_JMPREL:
			m->rela[1] = (const void *)address(m, d->d_un.d_ptr);
			break;
		case DT_PLTRELSZ:
			m->rela_bytes[1] = d->d_un.d_val;
			break;
		case DT_PLTREL:
			with_addend = d->d_un.d_val == DT_RELA;
			break;
		default:
			break;
		}
	}
	if (!with_addend)
		m->rela_bytes[1] = 0;
}

static void read_image(struct image *m, const struct dl_phdr_info *info)
{
	const ElfW(Addr) page = (ElfW(Addr))sysconf(_SC_PAGESIZE);
	const ElfW(Dyn) *dyn = NULL;

	m->base = info->dlpi_addr;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];

		if (p->p_type == PT_DYNAMIC)
			dyn = (const void *)(m->base + p->p_vaddr);
		if (p->p_type == PT_LOAD && p->p_flags & PF_W) {
			m->data = m->base + p->p_vaddr;
			m->data_end = m->data + p->p_memsz;
		}
		if (p->p_type == PT_GNU_RELRO) {
			m->relro = (m->base + p->p_vaddr) & ~(page - 1);
			m->relro_end = (m->base + p->p_vaddr + p->p_memsz) & ~(page - 1);
		}
	}
	if (dyn)
		read_dynamic(m, dyn);
}

static void store(const struct image *m, ElfW(Addr) at, void *fn)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *start = (void *)(at & ~(page - 1));
	bool fixed = at >= m->relro && at < m->relro_end;

	if (at < m->data || at + sizeof(fn) > m->data_end)
		return; /* text: its calls stay what they are, and what they read is not seen */
	if (fixed && mprotect(start, page, PROT_READ | PROT_WRITE) != 0)
		return;
	__atomic_store((void **)at, &fn, __ATOMIC_RELEASE);
	if (fixed)
		mprotect(start, page, PROT_READ);
}

/* A pointer to the function, and nothing else: entries of the global offset table and data. */
static bool is_pointer(uint64_t type)
{
#if defined(__x86_64__)
	return type == R_X86_64_JUMP_SLOT || type == R_X86_64_GLOB_DAT || type == R_X86_64_64;
#elif defined(__aarch64__)
	return type == R_AARCH64_JUMP_SLOT || type == R_AARCH64_GLOB_DAT || type == R_AARCH64_ABS64;
#else
	(void)type;
	return false;
#endif
}

static void relocate(const struct image *m, const char *name, void *fn)
{
	for (unsigned part = 0; part < 2; part++) {
		const ElfW(Rela) *r = m->rela[part];

		for (size_t i = 0; i < m->rela_bytes[part] / sizeof(*r); i++) {
			uint32_t sym = (uint32_t)ELF64_R_SYM(r[i].r_info);

			if (sym != 0 && is_pointer(ELF64_R_TYPE(r[i].r_info)) &&
			    r[i].r_addend == 0 && strcmp(m->str + m->sym[sym].st_name, name) == 0)
				store(m, m->base + r[i].r_offset, fn);
		}
	}
}

/* Behind us, so behind the program: in one that is not position-independent its own symbol may be
 * the call through the very entry that is about to be ours.  False: there is no such function. */
static bool find(void *theirs, const char *name)
{
	void *fn = dlsym(RTLD_NEXT, name);

	memcpy(theirs, &fn, sizeof(fn));
	return fn != NULL;
}

/* The program's calls of name go to ours. */
#define TAKE(m, name, ours)                                                                        \
	do {                                                                                       \
		void *fn_;                                                                         \
		__typeof__(&(ours)) p_ = (ours);                                                   \
		memcpy(&fn_, &p_, sizeof(fn_));                                                    \
		relocate((m), (name), fn_);                                                        \
	} while (0)

/* The program, which comes first, and libwebsockets, if it is there. */
struct images {
	unsigned seen;
	struct image program, library;
	char path[PATH_MAX]; /* of the library */
};

static bool is_library(const char *path)
{
	const char *name = strrchr(path, '/');

	return strncmp(name ? name + 1 : path, LIBWEBSOCKETS, strlen(LIBWEBSOCKETS)) == 0;
}

static int find_images(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct images *all = arg;

	(void)size;
	if (all->seen++ == 0) {
		read_image(&all->program, info);
	} else if (is_library(info->dlpi_name) && !all->path[0]) {
		snprintf(all->path, sizeof(all->path), "%s", info->dlpi_name);
		read_image(&all->library, info);
	}
	return 0;
}

/* There may be another OpenSSL, for the library alone. */
static bool uses_the_same(const char *path)
{
	void *lib = dlopen(path, RTLD_NOLOAD | RTLD_LAZY), *ours;
	bool same = false;

	memcpy(&ours, &real.read, sizeof(ours));
	if (lib) {
		same = dlsym(lib, "SSL_read") == ours;
		dlclose(lib);
	}
	return same;
}

static void take(const struct image *m)
{
	if (!m->sym || !m->str)
		return;
	TAKE(m, "SSL_read", tls_read);
	TAKE(m, "SSL_read_ex", tls_read_ex);
	TAKE(m, "SSL_write", tls_write);
	TAKE(m, "SSL_write_ex", tls_write_ex);
}

void lt_tls_watch(void)
{
	static bool done;
	static struct images all;

	if (__atomic_exchange_n(&done, true, __ATOMIC_ACQ_REL))
		return;
	if (!find(&real.read, "SSL_read") || !find(&real.read_ex, "SSL_read_ex") ||
	    !find(&real.write, "SSL_write") || !find(&real.write_ex, "SSL_write_ex") ||
	    !find(&real.get_fd, "SSL_get_fd"))
		return;
	dl_iterate_phdr(find_images, &all);
	take(&all.program);
	if (all.path[0] && uses_the_same(all.path))
		take(&all.library);
}
