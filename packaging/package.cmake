# SPDX-License-Identifier: Apache-2.0
# Generated documentation, what is installed where, and the Debian package.
set(docs ${CMAKE_BINARY_DIR}/docs)
file(GLOB doc_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/man/*)
add_custom_command(
  OUTPUT ${docs}/cli.json
  COMMAND ${CMAKE_COMMAND} -E make_directory ${docs}
  COMMAND kld --dump-cli > ${docs}/cli.json.new
  COMMAND ${CMAKE_CURRENT_LIST_DIR}/generate-docs ${docs} < ${docs}/cli.json.new
  COMMAND ${CMAKE_COMMAND} -E rename ${docs}/cli.json.new ${docs}/cli.json
  DEPENDS kld ${CMAKE_CURRENT_LIST_DIR}/generate-docs ${doc_sources}
  COMMENT "Making man pages and completion from kld --dump-cli"
  VERBATIM)
add_custom_target(docs ALL DEPENDS ${docs}/cli.json)

# Paths are Debian's own, not below a prefix: units and completion lie where their readers look.
install(TARGETS kld DESTINATION /usr/bin)
install(DIRECTORY ${docs}/man5 ${docs}/man8 DESTINATION /usr/share/man)
install(FILES ${docs}/completions/kld DESTINATION /usr/share/bash-completion/completions)
# The program writes into the configuration, so it is no conffile: an upgrade would ask about every host's.
install(FILES packaging/kvm.toml DESTINATION /usr/share/kldload-kvm)
install(FILES packaging/systemd/kld-recover.service packaging/systemd/kvm-snapshot.service
              packaging/systemd/kvm-snapshot.timer
        DESTINATION /usr/lib/systemd/system)
install(FILES packaging/systemd/libvirtd.conf
        DESTINATION /usr/lib/systemd/system/libvirtd.service.d RENAME kldload.conf)
install(FILES packaging/systemd/tmpfiles.conf DESTINATION /usr/lib/tmpfiles.d RENAME kldload.conf)
install(FILES README.md CHANGELOG.md docs/architecture.md packaging/deb/copyright
        DESTINATION /usr/share/doc/kldload-kvm)
# libvirt runs it before it starts a domain.
install(CODE "
  file(MAKE_DIRECTORY \"\$ENV{DESTDIR}/etc/libvirt/hooks/qemu.d\")
  file(CREATE_LINK /usr/bin/kld \"\$ENV{DESTDIR}/etc/libvirt/hooks/qemu.d/kld-start-guard\" SYMBOLIC)")
# One link for each command that has a name of its own, as --dump-cli says.
install(CODE "
  file(READ \"${docs}/cli.json\" cli)
  string(JSON count LENGTH \"\${cli}\" commands)
  math(EXPR last \"\${count} - 1\")
  foreach(index RANGE \${last})
    string(JSON link GET \"\${cli}\" commands \${index} link)
    if(link)
      file(CREATE_LINK kld \"\$ENV{DESTDIR}/usr/bin/\${link}\" SYMBOLIC)
      file(CREATE_LINK kld \"\$ENV{DESTDIR}/usr/share/bash-completion/completions/\${link}\" SYMBOLIC)
    endif()
  endforeach()")

set(CPACK_GENERATOR DEB)
set(CPACK_SET_DESTDIR ON)
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGE_NAME kldload-kvm)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_VENDOR kldload)
set(CPACK_PACKAGE_CONTACT "kldload maintainers <kldload@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "machines of KVM on ZFS: create, clone, snapshot, list, adopt, delete")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION
    "One program that joins libvirt's domains with ZFS's volumes: a clone is a
metadata write, a snapshot holds the whole machine (disks, firmware variables,
TPM, definition), and what was cut off is undone or finished.")
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
# libvirt0 and libarchive13 are loaded at run time, where SHLIBDEPS does not see them.
set(CPACK_DEBIAN_PACKAGE_DEPENDS
    "libvirt0 (>= 9.0), libarchive13, libvirt-daemon-system, qemu-system-x86, qemu-utils, zfsutils-linux, ovmf, swtpm, swtpm-tools")
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "dnsmasq-base")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "bash-completion")
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
    ${CMAKE_CURRENT_LIST_DIR}/deb/postinst
    ${CMAKE_CURRENT_LIST_DIR}/deb/prerm ${CMAKE_CURRENT_LIST_DIR}/deb/postrm)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
include(CPack)
