# What `cmake --install` gives: headers, libraries, the program, and what find_package(headrace) reads.
include(CMakePackageConfigHelpers)

install(DIRECTORY ${PROJECT_SOURCE_DIR}/headrace/ DESTINATION include/headrace FILES_MATCHING PATTERN "*.h")
install(TARGETS headrace headrace_torch_program RUNTIME DESTINATION bin)
install(EXPORT headraceTargets NAMESPACE headrace:: DESTINATION lib/cmake/headrace)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/headraceConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_SOURCE_DIR}/cmake/headraceConfig.cmake ${PROJECT_SOURCE_DIR}/cmake/Torch.cmake
  ${PROJECT_BINARY_DIR}/headraceConfigVersion.cmake DESTINATION lib/cmake/headrace)
